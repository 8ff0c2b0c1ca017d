"""Who answers a response, where several gateways share them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Makes the column."""
    op.add_column("response", sa.Column("gateway", sa.Text, nullable=False, server_default=""))
