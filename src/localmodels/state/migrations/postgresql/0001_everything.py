"""All tables, as they were when several gateways could first share them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# In the order of its bytes, whatever language the machine speaks.
TEXT = sa.Text(collation="C")


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "key",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("shown", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("models", TEXT, nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("tokens_per_minute", sa.BigInteger),
        sa.Column("token_quota", sa.BigInteger),
        sa.Column("quota_period", TEXT, nullable=False),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("key_name", "key", ["name"], unique=True, postgresql_where=sa.text("revoked_at IS NULL"))
    op.create_table(
        "usage",
        sa.Column("key_id", TEXT, primary_key=True),
        sa.Column("model", TEXT, primary_key=True),
        sa.Column("server", TEXT, primary_key=True),
        sa.Column("hour", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("estimated", sa.BigInteger, nullable=False),
    )
    op.create_index("usage_hour", "usage", ["hour"])
    op.create_table(
        "meta",
        sa.Column("name", TEXT, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "task",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("reached", TEXT, nullable=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("ratio", sa.Float, nullable=False),
        sa.Column("failure", sa.LargeBinary),
        sa.Column("retry_of", TEXT, nullable=False),
        sa.Column("origin", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
        sa.Column("gateway", TEXT, nullable=False, server_default=""),
    )
    op.create_index("task_created_at", "task", ["created_at"])
    op.create_table(
        "task_event",
        sa.Column("task_id", TEXT, sa.ForeignKey("task.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("action", TEXT, nullable=False),
        sa.Column("ratio", sa.Float, nullable=False),
        sa.Column("details", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
    )
    op.create_table(
        "server",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("api_version", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("capabilities", TEXT, nullable=False),
        sa.Column("max_concurrent", sa.Integer, nullable=False),
        sa.Column("max_queue", sa.Integer, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("first_byte", sa.Float, nullable=False),
        sa.Column("idle", sa.Float, nullable=False),
        sa.Column("reach", TEXT, nullable=False),
        sa.Column("gateway", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("server_name", "server", ["gateway", "name"], unique=True)
    op.create_index("server_url", "server", ["gateway", "url"], unique=True)
    op.create_index("server_default", "server", ["is_default"], unique=True, postgresql_where=sa.text("is_default"))
    op.create_table(
        "server_key",
        sa.Column("server_id", TEXT, sa.ForeignKey("server.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", TEXT, nullable=False),
    )
    op.create_table(
        "server_model",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("server_id", TEXT, sa.ForeignKey("server.id", ondelete="CASCADE"), nullable=False),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("capabilities", TEXT, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("digest", TEXT, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("told", TEXT, nullable=False),
        sa.Column("context_length", sa.BigInteger, nullable=False),
        sa.Column("modified_at", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("server_model_name", "server_model", ["server_id", "model"], unique=True)
    op.create_table(
        "response",
        sa.Column("owner", TEXT, primary_key=True),
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("model", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("previous_id", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("completed_at", sa.BigInteger),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("input", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("gateway", TEXT, nullable=False, server_default=""),
    )
    op.create_index("response_expires_at", "response", ["expires_at"])
    op.create_index("response_created_at", "response", ["created_at"])
    op.create_table(
        "gateway",
        sa.Column("id", TEXT, primary_key=True),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("in_flight", TEXT, nullable=False),
        sa.Column("waiting", TEXT, nullable=False),
        prefixes=["UNLOGGED"],
    )
