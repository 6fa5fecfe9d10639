"""Storage: reads and changes of the database, and the audit records that are committed with them.

Laws:

1. A change is acknowledged only after its commit; its audit records are in the same transaction, chained.
2. One change at a time in a process: the order of commits is the order of the audit chain.
3. A database that does not answer raises StorageUnavailable, and nothing was acknowledged. A change whose commit broke
   off may have happened: whoever asked sees a failure and can look.
4. A database is opened only with the master key it was made with.
"""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, Self

from sqlalchemy import URL, Connection, delete, insert, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from controller.audit import chain
from controller.audit.events import Event
from controller.audit.writer import Audit, Stamped
from controller.errors import StorageError, WrongMasterKey
from controller.storage import schema
from controller.storage.chained import REGISTER, ChainWriter
from controller.storage.database import (
    WRITES,
    answering,
    make_engine,
    parse_database_url,
    reading,
    spoken,
    sqlite_path,
)
from controller.storage.models import Setting
from controller.storage.sealing import Sealer

DOMAIN: Final = "domain"
MASTER_CHECK: Final = "master_check"
INITIALISED: Final = "initialised"
AUDIT_KEY: Final = "audit_key"
"""What the audit chains are kept with, sealed; only once the master key was replaced: until then it follows from it."""

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Change:
    """A transaction that will be committed: ``db`` for its rows, ``record`` for the audit log."""

    def __init__(self, db: AsyncSession, clock: Clock) -> None:
        self.db = db
        self.events: list[Stamped] = []
        self._clock = clock

    def record(self, event: Event) -> None:
        """Writes ``event`` to the audit log if, and only if, this change is committed."""
        self.events.append((self._clock(), event))


class Storage:
    """An open database. Made by ``open`` or ``create``; closed with ``close`` or by ``async with``."""

    def __init__(self, engine: AsyncEngine, url: URL, sealer: Sealer, controller: str, clock: Clock) -> None:
        self.sealer = sealer
        self.controller = controller
        self.clock = clock
        self.domain = ""
        self.audit = Audit(self._write_events, clock)
        self._engine = engine
        self._url = url
        self._reads = async_sessionmaker(reading(engine), expire_on_commit=False)
        self._writes = async_sessionmaker(engine.execution_options(**WRITES), expire_on_commit=False)
        self._turn = asyncio.Lock()
        self._changing: asyncio.Task[object] | None = None
        self._recorded = asyncio.Event()
        self.audit_key = sealer.derive(chain.KEY_LABEL)  # or the one that was kept through rotations of the master key
        self._chain = ChainWriter(self.audit_key, controller)

    @classmethod
    async def create(
        cls, url: str, sealer: Sealer, *, controller: str = "main", domain: str = "example.test", clock: Clock = utc_now
    ) -> Self:
        """An open storage on a database that was empty. Raises StorageError if something is in it already."""
        return await cls._opened(url, sealer, controller, clock, domain)

    @classmethod
    async def refill(
        cls,
        url: str,
        sealer: Sealer,
        load: Callable[[Connection], None],
        *,
        controller: str = "main",
        clock: Clock = utc_now,
    ) -> Self:
        """An open storage on an empty database that `load` fills, all or nothing. Raises StorageError, as `create`."""
        return await cls._opened(url, sealer, controller, clock, load)

    @classmethod
    async def open(cls, url: str, sealer: Sealer, *, controller: str = "main", clock: Clock = utc_now) -> Self:
        """An open storage on a database made by ``create``, migrated if it is older.

        Raises StorageError: missing, newer, made with another master key; StorageUnavailable: not reachable.
        """
        return await cls._opened(url, sealer, controller, clock, None)

    @classmethod
    async def discard(cls, url: str) -> None:
        """Removes what a ``create`` that was not finished left. Never touches a database that was opened since."""
        parsed = parse_database_url(url)
        engine = make_engine(parsed)
        try:
            with answering(parsed, connecting=True):
                async with engine.execution_options(**WRITES).begin() as connection:
                    await connection.run_sync(_discard)
        finally:
            await engine.dispose()

    @classmethod
    async def _opened(
        cls, text: str, sealer: Sealer, controller: str, clock: Clock, create: str | Callable[[Connection], None] | None
    ) -> Self:
        url = parse_database_url(text)
        _prepare_file(url, new=create is not None)
        engine = make_engine(url)
        storage = cls(engine, url, sealer, controller, clock)
        try:
            with answering(url, connecting=True):
                async with engine.execution_options(**WRITES).begin() as connection:
                    if create is None:
                        await connection.run_sync(storage._check)
                    elif callable(create):
                        await connection.run_sync(storage._refill, create)
                    else:
                        await connection.run_sync(storage._fill, create)
        except BaseException:
            await engine.dispose()
            raise
        storage.audit.start()
        return storage

    def _require_empty(self, connection: Connection) -> None:
        """Refuses a database with something in it; what an interrupted init or restore left is removed."""
        if schema.is_ours(connection):
            if _setting(connection, INITIALISED) is not None:
                raise StorageError(
                    f"the database {spoken(self._url)} already holds a perimeter", "name an empty database"
                )
            schema.drop_everything(connection)
        elif inspect(connection).get_table_names():
            raise StorageError(f"the database {spoken(self._url)} is not empty", "name an empty database")

    def _refill(self, connection: Connection, load: Callable[[Connection], None]) -> None:
        self._require_empty(connection)
        load(connection)
        connection.execute(delete(Setting).where(Setting.key == INITIALISED))  # `open` says so once all is in place
        schema.migrate(connection)
        self._require_master(connection)
        self.domain = _setting(connection, DOMAIN) or ""

    def _fill(self, connection: Connection, domain: str) -> None:
        """An empty database becomes ours."""
        self._require_empty(connection)
        schema.migrate(connection)
        self.domain = domain
        _put(connection, DOMAIN, domain)
        _put(connection, MASTER_CHECK, self.sealer.fingerprint)
        _put(connection, REGISTER, chain.register(self.audit_key, 0))

    def _check(self, connection: Connection) -> None:
        if not schema.is_ours(connection):
            raise StorageError(
                f"the database {spoken(self._url)} holds no perimeter",
                "run gloam-controller init, or correct the database URL",
            )
        schema.migrate(connection)
        self._require_master(connection)
        self.domain = _setting(connection, DOMAIN) or ""
        if _setting(connection, INITIALISED) is None:
            _put(connection, INITIALISED, self.clock().isoformat())

    def _require_master(self, connection: Connection) -> None:
        if _setting(connection, MASTER_CHECK) != self.sealer.fingerprint:
            raise WrongMasterKey
        if (kept := _setting(connection, AUDIT_KEY)) is not None:
            self.audit_key = self.sealer.open(base64.b64decode(kept), AUDIT_KEY)
            self._chain = ChainWriter(self.audit_key, self.controller)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session on one consistent view; nothing done in it is committed."""
        with answering(self._url):
            async with self._reads() as db:
                with answering(self._url, connecting=True):
                    await db.connection()
                yield db

    @asynccontextmanager
    async def change(self) -> AsyncIterator[Change]:
        """A transaction, committed when the block ends without an exception."""
        task = asyncio.current_task()
        if self._changing is task:
            raise RuntimeError("a change inside a change would wait for itself")
        async with self._turn:
            self._changing = task
            try:
                with answering(self._url):
                    async with self._writes() as db:
                        with answering(self._url, connecting=True):
                            await db.connection()
                        change = Change(db, self.clock)
                        yield change
                        await db.flush()
                        await self._chain.append(db, change.events)
                        await db.commit()
                        self._chain.committed()
                        if change.events:
                            self._recorded.set()
                            self._recorded = asyncio.Event()
            finally:
                self._chain.uncertain()
                self._changing = None

    async def replace_master(self, change: Change, new: Sealer) -> None:
        """Lets `new` open the database once `change` is committed; what is sealed in it is the caller's to seal."""
        kept = base64.b64encode(new.seal(self.audit_key, AUDIT_KEY)).decode()
        await change.db.execute(update(Setting).where(Setting.key == MASTER_CHECK).values(value=new.fingerprint))
        await change.db.merge(Setting(key=AUDIT_KEY, value=kept))

    @property
    def recorded(self) -> asyncio.Event:
        """Set when this process next commits audit records; ask for it before reading, then wait."""
        return self._recorded

    async def _write_events(self, events: Sequence[Stamped]) -> None:
        async with self.change() as change:
            change.events.extend(events)

    async def close(self) -> None:
        """Writes the noted events and closes every connection."""
        await self.audit.close()
        await self._engine.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self.close()


def _discard(connection: Connection) -> None:
    if schema.is_ours(connection) and _setting(connection, INITIALISED) is None:
        schema.drop_everything(connection)


def _prepare_file(url: URL, *, new: bool) -> None:
    """SQLite would make a missing file, readable by everyone: we make it, for ourselves, or say that it is missing."""
    path = sqlite_path(url)
    if path is None or path.is_file():
        return
    if not new:
        raise StorageError(f"the database {path} is missing", "run gloam-controller init, or restore a backup")
    try:
        path.touch(mode=0o600)
    except OSError as error:
        raise StorageError(
            f"the database {path} cannot be made: {error.strerror}", "check the directory and its permissions"
        ) from error


def _setting(connection: Connection, key: str) -> str | None:
    return connection.execute(select(Setting.value).where(Setting.key == key)).scalar_one_or_none()


def _put(connection: Connection, key: str, value: str) -> None:
    connection.execute(insert(Setting).values(key=key, value=value))
