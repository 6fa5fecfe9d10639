"""The current directory: loaded at start, replaced whole after every change.

Laws:

1. A directory that cannot be loaded never replaces the one there is.
2. Reloads are one after another, so an older view never replaces a newer one.
3. What the revision counts, it counts in the transaction of the change: other controllers on the same database notice.
4. Whoever must act on changes (sessions, links) subscribes once; a reload is done when they all have acted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from sqlalchemy import BigInteger, String, cast, update

from controller.audit.events import ChangeMade
from controller.directory.directory import Directory
from controller.directory.loader import REVISION, load, stored_revision
from controller.storage import Change, Storage
from controller.storage.models import Setting
from wire.messages import ServedResource

log = structlog.get_logger()

Subscriber = Callable[[Directory], Awaitable[object]]


class DirectoryService:
    """Holds the directory; ``reload`` once before the first use."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._current: Directory | None = None
        self._turn = asyncio.Lock()
        self._subscribers: list[Subscriber] = []

    @property
    def current(self) -> Directory:
        """The directory in force."""
        if self._current is None:
            raise RuntimeError("the directory is not loaded yet")
        return self._current

    def served_by(self, gateway: str) -> tuple[ServedResource, ...] | None:
        """What a gateway is told it serves; None if there is no such gateway (any more)."""
        served = self.current.served_by(gateway)
        return None if served is None else tuple(ServedResource(name=each.name, port=each.port) for each in served)

    def owner_of(self, device: UUID) -> str | None:
        """The name of a device's owner; None for a device that is not known."""
        known = self.current.devices.get(device)
        whose = None if known is None else known.user_id
        owner = None if whose is None else self.current.users.get(whose)
        return None if owner is None else owner.name

    def subscribe(self, subscriber: Subscriber) -> None:
        """``subscriber`` is awaited after every reload, with the new directory."""
        self._subscribers.append(subscriber)

    async def reload(self) -> Directory:
        """Loads what is committed now, puts it in force and lets the subscribers act on it."""
        async with self._turn:
            async with self._storage.read() as db:
                directory = await load(db)
            if directory.engine.problem:
                log.error("policies cannot be used: everything is denied", problem=directory.engine.problem)
            self._current = directory
        for subscriber in self._subscribers:
            await subscriber(directory)
        return directory

    async def refresh(self) -> Directory:
        """Reloads if another controller has changed something."""
        async with self._storage.read() as db:
            revision = await stored_revision(db)
        return self.current if revision == self.current.revision else await self.reload()

    @asynccontextmanager
    async def change(self, actor: str) -> AsyncIterator["DirectoryChange"]:
        """A change of what decisions depend on: committed, counted, audited, and in force when the block has ended.

        A change that records nothing was none: it is not counted.
        """
        async with self._storage.change() as change:
            mine = DirectoryChange(change, actor)
            yield mine
            if mine.recorded:
                await bump_revision(change)
        if mine.recorded:
            await self.reload()


class DirectoryChange:
    """A storage change with somebody's name on it."""

    def __init__(self, change: Change, actor: str) -> None:
        self.change = change
        self.db = change.db
        self.recorded = False
        self._actor = actor

    def record(self, what: str, detail: str) -> None:
        """Writes to the audit log that the actor did ``what`` (as in "user.added")."""
        self.change.record(ChangeMade(actor=self._actor, what=what, detail=detail))
        self.recorded = True


async def bump_revision(change: Change) -> None:
    """Counts ``change`` as one of what decisions depend on."""
    counted = cast(cast(Setting.value, BigInteger) + 1, String)
    done = await change.db.execute(update(Setting).where(Setting.key == REVISION).values(value=counted))
    if done.rowcount == 0:  # type: ignore[attr-defined] # an UPDATE gives a CursorResult
        change.db.add(Setting(key=REVISION, value="1"))
