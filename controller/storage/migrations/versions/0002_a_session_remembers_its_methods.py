"""a session remembers its methods."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | Sequence[str] | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Makes the schema of this revision from the one before."""
    # Until now there was one way in: a password and a code.
    op.add_column("session", sa.Column("methods", sa.String(length=255), nullable=False, server_default="mfa otp pwd"))
