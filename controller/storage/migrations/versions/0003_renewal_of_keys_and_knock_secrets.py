"""renewal of keys and knock secrets."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | Sequence[str] | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

LIFETIME = 30 * 86_400 * 1_000_000
"""Microseconds: what certificates lived until now, unless somebody set otherwise; nothing in the database says it."""


def upgrade() -> None:
    """Makes the schema of this revision from the one before."""
    # The default is for the rows there are: SQLite adds no column of theirs without one.
    op.add_column("device", sa.Column("certified_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("device", sa.Column("sealed_next_knock_secret", sa.LargeBinary(), nullable=True))
    op.add_column("device", sa.Column("next_key_sha256", sa.LargeBinary(), nullable=True))
    op.add_column("device", sa.Column("next_certified_until", sa.BigInteger(), nullable=True))
    op.add_column("gateway", sa.Column("certified_until", sa.BigInteger(), nullable=True))
    op.add_column("gateway", sa.Column("sealed_next_knock_secret", sa.LargeBinary(), nullable=True))
    op.add_column("gateway", sa.Column("next_key_sha256", sa.LargeBinary(), nullable=True))
    op.add_column("gateway", sa.Column("next_certified_until", sa.BigInteger(), nullable=True))
    device, gateway = sa.table("device", *_columns("created_at")), sa.table("gateway", *_columns("enrolled_at"))
    op.execute(sa.update(device).values(certified_until=device.c.created_at + LIFETIME))
    op.execute(sa.update(gateway).values(certified_until=gateway.c.enrolled_at + LIFETIME))


def _columns(*names: str) -> list[sa.ColumnClause[int]]:
    return [sa.column(name, sa.BigInteger()) for name in ("certified_until", *names)]
