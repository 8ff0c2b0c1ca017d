"""Servers that were registered, their keys and models; and whose a task is, where several gateways share them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Makes the tables, and the column."""
    op.add_column("task", sa.Column("gateway", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "server",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("api_version", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("capabilities", sa.Text, nullable=False),
        sa.Column("max_concurrent", sa.Integer, nullable=False),
        sa.Column("max_queue", sa.Integer, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("weight", sa.Float, nullable=False),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("first_byte", sa.Float, nullable=False),
        sa.Column("idle", sa.Float, nullable=False),
        sa.Column("reach", sa.Text, nullable=False),
        sa.Column("gateway", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("server_name", "server", ["gateway", "name"], unique=True)
    op.create_index("server_url", "server", ["gateway", "url"], unique=True)
    op.create_index("server_default", "server", ["is_default"], unique=True, sqlite_where=sa.text("is_default"))
    op.create_table(
        "server_key",
        sa.Column("server_id", sa.Text, sa.ForeignKey("server.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
    )
    op.create_table(
        "server_model",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("server_id", sa.Text, sa.ForeignKey("server.id", ondelete="CASCADE"), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("capabilities", sa.Text, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("is_active", sa.Boolean, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("told", sa.Text, nullable=False),
        sa.Column("context_length", sa.BigInteger, nullable=False),
        sa.Column("modified_at", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("server_model_name", "server_model", ["server_id", "model"], unique=True)
