"""Tasks, and what they said of themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "task",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reached", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("ratio", sa.Float, nullable=False),
        sa.Column("failure", sa.LargeBinary),
        sa.Column("retry_of", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger, nullable=False),
    )
    op.create_index("task_created_at", "task", ["created_at"])
    op.create_table(
        "task_event",
        sa.Column("task_id", sa.Text, sa.ForeignKey("task.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("ratio", sa.Float, nullable=False),
        sa.Column("details", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
    )
