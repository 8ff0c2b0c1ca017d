"""The tables, as SQLAlchemy knows them: what the two files in the home hold.

::

    state.db       key          who may ask, and how much; never a key's text
                   usage        what a key used of a model in an hour; never a prompt
                   meta         ``keys_generation``: raised by every change of a key
                   task         long work: what was asked, how far it is, how it ended
                   task_event   what a task said of itself
    responses.db   response     what was asked and answered through the Responses API, until it expires

The rule: prompts are in ``responses.db`` and nowhere else, so that who wants none kept can exclude one file. Times are
nanoseconds since 1970, UTC; lists are words with spaces between, which neither scopes nor patterns of models hold; what
only its owner looks into (a task's request, failure and details) is JSON.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

STATE = MetaData()
RESPONSES = MetaData()

KEY = Table(
    "key",
    STATE,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("shown", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("models", Text, nullable=False),
    Column("requests_per_minute", BigInteger),
    Column("tokens_per_minute", BigInteger),
    Column("token_quota", BigInteger),
    Column("quota_period", Text, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    # A name is free again when its key was revoked; the key stays, since usage names it.
    Index("key_name", "name", unique=True, sqlite_where=text("revoked_at IS NULL")),
)

USAGE = Table(
    "usage",
    STATE,
    Column("key_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("server", Text, primary_key=True),
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
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

TASK = Table(
    "task",
    STATE,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("request", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("reached", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("ratio", Float, nullable=False),
    Column("failure", LargeBinary),
    Column("retry_of", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Index("task_created_at", "created_at"),
)

TASK_EVENT = Table(
    "task_event",
    STATE,
    Column("task_id", Text, ForeignKey("task.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("action", Text, nullable=False),
    Column("ratio", Float, nullable=False),
    Column("details", LargeBinary, nullable=False),
    Column("status", Integer, nullable=False),
)

RESPONSE = Table(
    "response",
    RESPONSES,
    Column("owner", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("previous_id", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("completed_at", BigInteger),
    Column("expires_at", BigInteger, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("input", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Index("response_expires_at", "expires_at"),
    Index("response_created_at", "created_at"),
)
