"""How a database is opened, and when it counts as unreachable.

Laws:

1. A commit that returned is on the disk: SQLite in WAL mode with ``synchronous=FULL``, PostgreSQL with
   ``synchronous_commit=on`` whatever the server's default.
2. A writing transaction takes SQLite's write lock when it begins, so it never fails half-way for a lock.
3. A database that does not answer is a StorageUnavailable within seconds; mistakes of ours stay what they are.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from controller.errors import StorageError, StorageUnavailable
from controller.storage.sqlite_connection import SqliteConnection

SQLITE: Final = "sqlite+aiosqlite"
POSTGRESQL: Final = "postgresql+asyncpg"
CONNECT_SECONDS: Final = 5
STATEMENT_SECONDS: Final = 10
BUSY_MILLISECONDS: Final = 5_000  # how long one SQLite writer waits for another process's
WRITES: Final = {"gloam_writes": True}  # an execution option of transactions that will write

# PostgreSQL, Appendix A: connection, transaction rollback (ours is retried by whoever asked), insufficient resources,
# object not in prerequisite state (locks), operator intervention, system error.
_AWAY: Final = frozenset({"08", "40", "53", "55", "57", "58"})
_SQLITE_OURS: Final = frozenset(
    {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE}
)
_SQLITE_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_URL_FIX: Final = "use sqlite:///gloam.db or postgresql://USER@HOST:PORT/DATABASE"


def parse_database_url(text: str) -> URL:
    """The URL with its driver. Raises StorageError for what is neither SQLite nor PostgreSQL."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise StorageError("the database is not named by a URL", _URL_FIX) from None
    match url.drivername:
        case "sqlite" | "sqlite+aiosqlite":
            if not url.database or url.database == ":memory:" or url.query or url.host:
                raise StorageError("the database URL names no SQLite file", _URL_FIX)
            return url.set(drivername=SQLITE)
        case "postgresql" | "postgres" | "postgresql+asyncpg":
            return url.set(drivername=POSTGRESQL)
        case other:
            raise StorageError(f"{other} is not a kind of database gloam uses", _URL_FIX)


def sqlite_path(url: URL) -> Path | None:
    """The file of a SQLite database; None for PostgreSQL."""
    return Path(url.database or "") if url.drivername == SQLITE else None


def spoken(url: URL) -> str:
    """The database as messages name it, without its password."""
    return url.database or "" if url.drivername == SQLITE else url.render_as_string(hide_password=True)


def make_engine(url: URL) -> AsyncEngine:
    """An engine whose connections keep the laws above; nothing is opened yet."""
    if url.drivername == POSTGRESQL:
        return create_async_engine(
            url,
            pool_pre_ping=True,
            pool_timeout=CONNECT_SECONDS,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": STATEMENT_SECONDS,
                "server_settings": {"application_name": "gloam-controller", "synchronous_commit": "on"},
            },
        )
    # isolation_level None: the driver begins no transactions of its own; _begin below does.
    options = {"isolation_level": None, "async_creator_fn": SqliteConnection}
    engine = create_async_engine(url, pool_timeout=CONNECT_SECONDS, connect_args=options)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {BUSY_MILLISECONDS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("gloam_writes") else "BEGIN")


def reading(engine: AsyncEngine) -> AsyncEngine:
    """The engine for reads: each transaction is one view of the database, however many statements it has."""
    if engine.dialect.name == "postgresql":
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine  # a transaction in SQLite's WAL mode is one view already


@contextmanager
def answering(url: URL, *, connecting: bool = False) -> Iterator[None]:
    """Turns what drivers raise when a database does not answer into StorageUnavailable.

    ``connecting``: nothing but the driver runs inside, so that any OSError is about reaching the database. A task that
    is being cancelled stays so, whatever a driver says of the statement it was torn from.
    """
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _stay_cancelled(error)
        meaning = _meaning(url, getattr(error, "orig", None) or error)
        if meaning is None:
            raise
        raise meaning from error
    except PoolTimeout as error:
        raise _unavailable(url, error) from error
    except OSError as error:
        _stay_cancelled(error)
        if connecting or isinstance(error, ConnectionError | TimeoutError):
            raise _unavailable(url, error) from error
        raise


def _stay_cancelled(error: BaseException) -> None:
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def _meaning(url: URL, error: BaseException) -> StorageError | None:
    """What a driver's error says about the database; None if it is about our statement."""
    name = spoken(url)
    if url.drivername == SQLITE:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF  # without the extended part
        if code in _SQLITE_DAMAGED:
            return StorageError(f"the database {name} is damaged: {_said(error)}", "restore it from a backup")
        return None if code in _SQLITE_OURS else _unavailable(url, error)
    state = getattr(error, "sqlstate", None)
    if state is None or state[:2] in _AWAY:
        return _unavailable(url, error)
    if state[:2] == "28":  # invalid authorization specification
        return StorageError(
            f"the database {name} refuses the login: {_said(error)}", "correct the user and password in its URL"
        )
    if state == "3D000":  # invalid catalog name
        return StorageError(f"the database {name} does not exist", f"create it, as in createdb {url.database}")
    return None


def _unavailable(url: URL, error: BaseException) -> StorageUnavailable:
    return StorageUnavailable(f"the database {spoken(url)} does not answer: {_said(error)}")


def _said(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
