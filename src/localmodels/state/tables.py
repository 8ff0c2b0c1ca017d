"""The tables, as SQLAlchemy knows them: what the two files in the home hold.

::

    state.db       key          who may ask, and how much; never a key's text
                   usage        what a key used of a model in an hour; never a prompt
                   meta         ``keys_generation``, ``fleet_generation``: raised by every change of those
                   task         long work: what was asked, how far it is, how it ended
                   task_event   what a task said of itself
                   server       a model server that was registered, as its owner describes it
                   server_key   what is sent to it, apart from what is shown of it
                   server_model what was found there, and what its owner says of it
    responses.db   response     what was asked and answered through the Responses API, until it expires

In PostgreSQL all of them stand beside each other, for several gateways; ``gateway`` says whose a task or response is
while it runs, and the table of that name what each has under way.

The rule: prompts are in ``responses.db`` and nowhere else, so that who wants none kept can exclude one file. Times are
nanoseconds since 1970, UTC; lists are words with spaces between, which neither scopes nor patterns of models hold; what
only its owner looks into (a task's request, failure and details) is JSON.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    text,
)

from localmodels.state.words import Words

STATE = MetaData()
RESPONSES = MetaData()
SHARED = MetaData()


def _where(condition: str) -> dict[str, Any]:
    """An index of some rows alone, on both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


KEY = Table(
    "key",
    STATE,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("shown", Words, nullable=False),
    Column("scopes", Words, nullable=False),
    Column("models", Words, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("token_quota", BigInteger),
    Column("quota_period", Words, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Words, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    # A name is free again when its key was revoked; the key stays, since usage names it.
    Index("key_name", "name", unique=True, **_where("revoked_at IS NULL")),
)

USAGE = Table(
    "usage",
    STATE,
    Column("key_id", Words, primary_key=True),
    Column("model", Words, primary_key=True),
    Column("server", Words, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("requests", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("estimated", BigInteger, nullable=False),
    Index("usage_hour", "hour"),
)

META = Table(
    "meta",
    STATE,
    Column("name", Words, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

TASK = Table(
    "task",
    STATE,
    Column("id", Words, primary_key=True),
    Column("kind", Words, nullable=False),
    Column("subject", Words, nullable=False),
    Column("owner", Words, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("state", Words, nullable=False),
    Column("reached", Words, nullable=False),
    Column("action", Words, nullable=False),
    Column("ratio", Float, nullable=False),
    Column("failure", LargeBinary),
    Column("retry_of", Words, nullable=False),
    Column("origin", Words, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("gateway", Words, nullable=False, server_default=""),
    Index("task_created_at", "created_at"),
)

TASK_EVENT = Table(
    "task_event",
    STATE,
    Column("task_id", Words, ForeignKey("task.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("action", Words, nullable=False),
    Column("ratio", Float, nullable=False),
    Column("details", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
)

SERVER = Table(
    "server",
    STATE,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("url", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("api_version", Words, nullable=False),
    Column("description", Words, nullable=False),
    Column("capabilities", Words, nullable=False),
    Column("max_concurrent", Integer, nullable=False),
    Column("max_queue", Integer, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("weight", Float, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("first_byte", Float, nullable=False),
    Column("idle", Float, nullable=False),
    Column("reach", Words, nullable=False),
    Column("gateway", Words, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # Each gateway has a row for its own engine, of the same name as the others'.
    Index("server_name", "gateway", "name", unique=True),
    Index("server_url", "gateway", "url", unique=True),
    Index("server_default", "is_default", unique=True, **_where("is_default")),
)

SERVER_KEY = Table(
    "server_key",
    STATE,
    Column("server_id", Words, ForeignKey("server.id", ondelete="CASCADE"), primary_key=True),
    Column("key", Words, nullable=False),
)

SERVER_MODEL = Table(
    "server_model",
    STATE,
    Column("id", Words, primary_key=True),
    Column("server_id", Words, ForeignKey("server.id", ondelete="CASCADE"), nullable=False),
    Column("model", Words, nullable=False),
    Column("name", Words, nullable=False),
    Column("capabilities", Words, nullable=False),
    Column("priority", BigInteger, nullable=False),
    Column("is_active", Boolean, nullable=False),
    Column("present", Boolean, nullable=False),
    Column("digest", Words, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("told", Words, nullable=False),
    Column("context_length", BigInteger, nullable=False),
    Column("modified_at", Words, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("server_model_name", "server_id", "model", unique=True),
)

RESPONSE = Table(
    "response",
    RESPONSES,
    Column("owner", Words, primary_key=True),
    Column("id", Words, primary_key=True),
    Column("model", Words, nullable=False),
    Column("status", Words, nullable=False),
    Column("previous_id", Words, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("expires_at", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("gateway", Words, nullable=False, server_default=""),
    Index("response_expires_at", "expires_at"),
    Index("response_created_at", "created_at"),
)

GATEWAY = Table(
    "gateway",
    SHARED,
    Column("id", Words, primary_key=True),
    # By the database's clock, since the gateways' own may differ.
    Column("seen", DateTime(timezone=True), nullable=False),
    Column("in_flight", Words, nullable=False),
    Column("waiting", Words, nullable=False),
    # Written several times a second, and of no worth after a crash of the database: it need not reach its log.
    prefixes=["UNLOGGED"],
)
