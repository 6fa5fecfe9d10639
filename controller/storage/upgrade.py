"""Alembic at work on a database that is not of this version; `schema.migrate` decides whether."""

import logging

from alembic.command import upgrade
from alembic.config import Config
from sqlalchemy import Connection

logging.getLogger("alembic").setLevel(logging.WARNING)  # its notes are news to nobody


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for our migrations, on ``connection``."""
    config = Config()
    config.set_main_option("script_location", "controller.storage:migrations")
    config.attributes["connection"] = connection
    return config


def upgrade_to(connection: Connection, revision: str) -> None:
    """Makes every step that is missing up to a revision ("head": the newest), in the connection's transaction."""
    upgrade(alembic_config(connection), revision)
