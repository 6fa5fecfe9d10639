"""From an empty or older database to the tables of this version, by Alembic, in process.

Laws:

1. All steps are one transaction: a database has an old schema or the new one, never half of it.
2. A database written by a newer gloam is refused, not guessed at.
3. Controllers that start at once on one database migrate it once: the others wait.
"""

import logging
from typing import Final

from alembic.command import upgrade
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from controller.errors import StorageError
from controller.storage.models import Base

logging.getLogger("alembic").setLevel(logging.WARNING)  # its notes at every start are news to nobody

VERSION_TABLE: Final = "alembic_version"
_MIGRATION_LOCK: Final = 0x676C6F616D  # "gloam": PostgreSQL's advisory lock while migrating


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for our migrations, on ``connection``."""
    config = Config()
    config.set_main_option("script_location", "controller.storage:migrations")
    config.attributes["connection"] = connection
    return config


def revision_of(connection: Connection) -> str | None:
    """The revision a database has; None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def migrate(connection: Connection) -> None:
    """Brings the database to this version's schema, in the connection's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    revision = revision_of(connection)
    scripts = ScriptDirectory.from_config(alembic_config())
    known = {script.revision for script in scripts.walk_revisions()}
    if revision is not None and revision not in known:
        raise StorageError(
            f"the database was written by a newer gloam (schema {revision})",
            "upgrade this controller, or restore a backup made with this version",
        )
    if revision != scripts.get_current_head():
        upgrade(alembic_config(connection), "head")


def is_ours(connection: Connection) -> bool:
    """Whether gloam's tables are here."""
    return inspect(connection).has_table(VERSION_TABLE) and inspect(connection).has_table("setting")


def drop_everything(connection: Connection) -> None:
    """Removes gloam's tables: only ever what an interrupted init left."""
    Base.metadata.drop_all(connection)
    connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))
