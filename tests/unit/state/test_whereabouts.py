"""Where a home's server keeps its state, as it wrote it down: one spelling, no secret, and whether it still runs."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from localmodels.core.secrets import Secret
from localmodels.state.files import StateError
from localmodels.state.whereabouts import WHEREABOUTS, Whereabouts, place_of, read, written

THERE = Whereabouts("postgresql://db:5432/models", "file /etc/lm.toml")


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("", ""),
        ("postgresql://me:hush@db.example:5432/models", "postgresql://db.example:5432/models"),
        ("postgres://you@DB.Example/models?sslmode=require", "postgresql://db.example:5432/models"),
        ("postgresql:///models", "postgresql://localhost:5432/models"),
        ("postgresql://me:hush@", "postgresql://localhost:5432/me"),
        ("postgresql://me@[::1]/models", "postgresql://[::1]:5432/models"),
        ("postgresql://me@[::1]:99/models", "postgresql://[::1]:99/models"),
        ("postgresql://a:1,b/models", "postgresql://a:1,b:5432/models"),
        ("postgresql:///models?host=/run/Pg&user=me&password=hush", "postgresql:///run/Pg/models"),
        ("postgresql:///?host=db&port=6&dbname=models", "postgresql://db:6/models"),
        ("postgresql://me:a/hu@sh@db/models", "postgresql://?"),
        ("postgresql://me:hu?sh@db/models", "postgresql://?"),
        ("postgresql://me:hu#sh@db/models", "postgresql://?"),
        ("postgresql://me:p@hush?word@db/models", "postgresql://?"),
        ("postgresql://me:p@hush#word@db/models", "postgresql://?"),
        ("postgresql://me@hush:hu?sh@db/models", "postgresql://?"),
        ("postgresql://db/models?user=me&password=hu@sh", "postgresql://?"),
        ("postgresql://me:p%40hush%3Fword@db/models", "postgresql://db:5432/models"),
        ("postgresql://[bad", "postgresql://?"),
    ],
)
def test_a_database_has_one_spelling_without_who_asks(url: str, place: str) -> None:
    assert place_of(Secret(url)) == place
    assert "hush" not in place


def test_it_is_read_as_it_was_written_and_says_whether_the_server_runs(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    with written(tmp_path, THERE):
        assert read(tmp_path) == (THERE, True)
        assert (tmp_path / WHEREABOUTS).stat().st_mode & 0o777 == 0o600
        with written(tmp_path, Whereabouts()):  # another server of the home
            assert read(tmp_path) == (Whereabouts(), True)
    assert read(tmp_path) == (Whereabouts(), False)
    assert [path.name for path in tmp_path.iterdir()] == [WHEREABOUTS]
    assert Whereabouts().told(tmp_path) == str(tmp_path / "state.db")
    assert THERE.told(tmp_path) == THERE.database


def test_who_else_reads_it_is_no_server(tmp_path: Path) -> None:
    with written(tmp_path, THERE):
        pass
    with (tmp_path / WHEREABOUTS).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert read(tmp_path) == (THERE, False)


def test_what_fails_meanwhile_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="something else"), written(tmp_path, THERE):
        raise FileNotFoundError("something else")


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be written"), written(tmp_path / "none", THERE):
        pass
    (tmp_path / WHEREABOUTS).write_bytes(b"\xff")
    with pytest.raises(StateError, match="cannot be used: it is not as a server writes it"):
        read(tmp_path)
