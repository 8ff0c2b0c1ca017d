"""The tables of the fleet, as they are written: servers, their keys, and the models that were found there.

The rule: every method takes its turn before it looks, so that what it saw still holds when it writes, and raises the
generation if it changed something (see ``generations``).
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict
from sqlalchemy import Connection, delete, or_, select, update

from localmodels.core.errors import Conflict, NotFound
from localmodels.core.fleet import ModelChange, ModelRow, ServerChange, ServerRow
from localmodels.core.secrets import Secret
from localmodels.state.fleet_rows import OWNERS, columns_of, differing, model_of, server_of
from localmodels.state.generations import FLEET, change, turn
from localmodels.state.tables import SERVER, SERVER_KEY, SERVER_MODEL
from localmodels.state.writing import insert_into


class Fleet:
    """Writes the fleet, in the transaction of a connection; see :class:`localmodels.core.fleet.FleetStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, row: ServerRow, key: Secret | None) -> None:
        """Keeps a new server.

        Raises:
            Conflict: there is one of this name, or at this address.
        """
        turn(self._connection, FLEET)
        self._require_free(row, but="")
        change(self._connection, FLEET)
        if row.is_default:
            self._leave_default()
        self._connection.execute(insert_into(self._connection, SERVER), columns_of(asdict(row)))
        if key:
            self._keep_key(row.id, key)

    def change(self, server_id: str, wanted: ServerChange, now: int, key: Secret | None) -> ServerRow:
        """Changes these columns alone.

        Raises:
            NotFound: there is none of this id.
            Conflict: as :meth:`add`.
        """
        turn(self._connection, FLEET)
        old = self._server(server_id)
        columns = columns_of(asdict(wanted)) | {"updated_at": now}
        new = server_of(columns_of(asdict(old)) | columns)
        self._require_free(new, but=server_id)
        change(self._connection, FLEET)
        if new.is_default and not old.is_default:
            self._leave_default()
        self._connection.execute(update(SERVER).where(SERVER.c.id == server_id).values(columns))
        if key is not None:
            self._keep_key(server_id, key)
        return new

    def remove(self, server_id: str) -> bool:
        """Forgets a server, its key and its models; was it there?"""
        turn(self._connection, FLEET)
        if self._connection.execute(delete(SERVER).where(SERVER.c.id == server_id)).rowcount == 0:
            return False
        change(self._connection, FLEET)
        return True

    def keep_models(self, server_id: str, rows: Sequence[ModelRow]) -> None:
        """Keeps these in place of what was kept of them; nothing is written where nothing differs."""
        turn(self._connection, FLEET)
        is_there = select(SERVER.c.id).where(SERVER.c.id == server_id)
        if self._connection.execute(is_there).first() is None:
            return
        columns = [columns_of(asdict(row)) for row in differing(self._models(server_id), rows)]
        if columns:
            change(self._connection, FLEET)
            new = insert_into(self._connection, SERVER_MODEL)
            found = {name: new.excluded[name] for name in columns[0] if name not in OWNERS}
            self._connection.execute(new.on_conflict_do_update(index_elements=["id"], set_=found), columns)

    def change_model(self, model_id: str, wanted: ModelChange, now: int) -> ModelRow:
        """Changes these columns alone.

        Raises:
            NotFound: there is none of this id.
        """
        turn(self._connection, FLEET)
        columns = columns_of(asdict(wanted)) | {"updated_at": now}
        changed = update(SERVER_MODEL).where(SERVER_MODEL.c.id == model_id).values(columns)
        row = self._connection.execute(changed.returning(*SERVER_MODEL.c)).mappings().first()
        if row is None:
            raise NotFound(f"there is no model of the id '{model_id[:40]}'", param="id")
        change(self._connection, FLEET)
        return model_of(dict(row))

    def forget_model(self, model_id: str) -> bool:
        """Forgets a model that its server has no more; was there such a row?"""
        turn(self._connection, FLEET)
        gone = (SERVER_MODEL.c.id == model_id, SERVER_MODEL.c.present.is_(False))
        if self._connection.execute(delete(SERVER_MODEL).where(*gone)).rowcount == 0:
            return False
        change(self._connection, FLEET)
        return True

    def _server(self, server_id: str) -> ServerRow:
        row = self._connection.execute(select(SERVER).where(SERVER.c.id == server_id)).mappings().first()
        if row is None:
            raise NotFound(f"there is no server of the id '{server_id[:40]}'", param="id")
        return server_of(dict(row))

    def _require_free(self, row: ServerRow, but: str) -> None:
        others = (SERVER.c.gateway == row.gateway, SERVER.c.id != but)
        alike = or_(SERVER.c.name == row.name, SERVER.c.url == row.url)
        taken = self._connection.execute(select(SERVER.c.name, SERVER.c.url).where(*others, alike)).all()
        if any(name == row.name for name, _ in taken):
            raise Conflict(f"there is a server '{row.name}' already; choose another name", param="name")
        if taken:
            raise Conflict(f"the server '{taken[0].name}' is at {row.url} already", param="url")

    def _leave_default(self) -> None:
        self._connection.execute(update(SERVER).where(SERVER.c.is_default).values(is_default=False))

    def _keep_key(self, server_id: str, key: Secret) -> None:
        if not key:
            self._connection.execute(delete(SERVER_KEY).where(SERVER_KEY.c.server_id == server_id))
            return
        new = insert_into(self._connection, SERVER_KEY).values(server_id=server_id, key=key.reveal())
        kept = new.on_conflict_do_update(index_elements=["server_id"], set_={"key": new.excluded.key})
        self._connection.execute(kept)

    def _models(self, server_id: str) -> list[ModelRow]:
        kept = select(SERVER_MODEL).where(SERVER_MODEL.c.server_id == server_id)
        return [model_of(dict(row)) for row in self._connection.execute(kept).mappings()]
