"""What Alembic runs: our migrations, on the connection and in the transaction that ``schema.migrate`` hands in."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext

from controller.storage.models import Base, UtcTime


def frozen_type(kind: str, value: object, _context: AutogenContext) -> str | Literal[False]:
    """Migrations name SQL types only: they must not change when our classes do."""
    return "sa.BigInteger()" if kind == "type" and isinstance(value, UtcTime) else False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_item=frozen_type,
)
context.run_migrations()
