"""From an empty or older database to the tables of this version, by Alembic, in process.

Laws:

1. All steps are one transaction: a database has an old schema or the new one, never half of it.
2. A database written by a newer gloam is refused, not guessed at.
3. Controllers that start at once on one database migrate it once: the others wait.
"""

from pkgutil import iter_modules
from typing import Final

from sqlalchemy import Connection, inspect, text

from controller.errors import StorageError
from controller.storage.migrations import versions
from controller.storage.models import Base

VERSION_TABLE: Final = "alembic_version"
_MIGRATION_LOCK: Final = 0x676C6F616D  # "gloam": PostgreSQL's advisory lock while migrating


def revision_of(connection: Connection) -> str | None:
    """The revision a database has; None if it was never migrated."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant
    return found


def revisions() -> list[str]:
    """The revisions this version knows, oldest first: the numbers its files begin with."""
    return sorted(name[:4] for _, name, _ in iter_modules(versions.__path__))


def migrate(connection: Connection) -> None:
    """Brings the database to this version's schema, in the connection's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    revision, known = revision_of(connection), revisions()
    if revision is not None and revision not in known:
        raise StorageError(
            f"the database was written by a newer gloam (schema {revision})",
            "upgrade this controller, or restore a backup made with this version",
        )
    if revision != known[-1]:
        # Alembic takes a third of the time a controller needs to start, and hardly any start has something to migrate.
        from controller.storage.upgrade import upgrade_to

        upgrade_to(connection, "head")


def at_revision(connection: Connection, revision: str) -> None:
    """Makes the tables of one revision in an empty database. Raises StorageError for one this version does not know."""
    if revision not in revisions():
        raise StorageError(
            f"the backup was made by a newer gloam (schema {revision})", "restore it with that version, or a newer one"
        )
    from controller.storage.upgrade import upgrade_to

    upgrade_to(connection, revision)


def is_ours(connection: Connection) -> bool:
    """Whether gloam's tables are here."""
    return inspect(connection).has_table(VERSION_TABLE) and inspect(connection).has_table("setting")


def drop_everything(connection: Connection) -> None:
    """Removes gloam's tables: only ever what an interrupted init left."""
    Base.metadata.drop_all(connection)
    connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))
