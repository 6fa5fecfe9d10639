"""Writes the next migration by comparing ``models.py`` with the migrations so far. For developers of gloam."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic.command import revision
from sqlalchemy import Connection

from controller.storage.database import WRITES, make_engine, parse_database_url
from controller.storage.schema import migrate, revisions
from controller.storage.upgrade import alembic_config


def write_next(connection: Connection, message: str) -> None:
    """Migrates an empty database as far as migrations go, then writes what is missing as the next one."""
    migrate(connection)
    config = alembic_config(connection)
    revision(config, message, autogenerate=True, rev_id=f"{int(revisions()[-1]) + 1:04d}")


async def main(message: str) -> None:
    """Does so on a temporary SQLite database."""
    with TemporaryDirectory() as directory:
        engine = make_engine(parse_database_url(f"sqlite:///{Path(directory) / 'empty.db'}"))
        async with engine.execution_options(**WRITES).begin() as connection:
            await connection.run_sync(write_next, message)
        await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "a change of the tables"))
