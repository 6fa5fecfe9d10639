"""Events that belong to no change: tunnels, refused knocks, refused logins.

Laws:

1. ``note`` never waits and never fails: the queue is bounded, and what does not fit is counted and recorded as a count.
2. Refusals of one origin are told one by one only while they are few (restraint.py).
3. Noted events are written in batches, in the order they were noted, each batch one transaction.
4. While the database does not answer they wait; closing tries once more and says in the log what was lost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

import structlog

from controller.audit.events import Event, EventsDropped
from controller.audit.restraint import PERIOD, Restraint
from controller.errors import StorageUnavailable

Stamped = tuple[datetime, Event]

QUEUE_LIMIT: Final = 20_000  # events: some 20 MiB at most, minutes of a busy perimeter while a database restarts
BATCH_LIMIT: Final = 500  # events a transaction: keeps the writer's lock below some 50 ms
LINGER_SECONDS: Final = 0.02  # gathers a batch, so that many events cost few commits
RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger("audit")


class Audit:
    """The queue of noted events and the task that writes them; made and closed by Storage."""

    def __init__(
        self,
        write: Callable[[Sequence[Stamped]], Awaitable[None]],
        clock: Callable[[], datetime],
        *,
        limit: int = QUEUE_LIMIT,
    ) -> None:
        self._write = write
        self._clock = clock
        self._limit = limit
        self._waiting: deque[Stamped] = deque()
        self._dropped = 0
        self._restraint = Restraint()
        self._noted = asyncio.Event()
        self._closing = asyncio.Event()
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the task that writes; ``close`` awaits it."""
        self._task = asyncio.create_task(self._run(), name="audit writer")

    def note(self, event: Event) -> None:
        """Records ``event`` soon. Never blocks, never raises."""
        now = self._clock()
        self._settle(now)
        if self._restraint.admits(event, now):
            self._add(now, event)

    def _settle(self, now: datetime) -> None:
        for kept_back in self._restraint.settle(now):
            self._add(now, kept_back)

    def _add(self, now: datetime, event: Event) -> None:
        if len(self._waiting) >= self._limit:
            self._dropped += 1
        else:
            self._waiting.append((now, event))
        self._noted.set()

    @property
    def waiting(self) -> int:
        """How many noted events are not written yet."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """How many events were dropped since the last count was recorded."""
        return self._dropped

    async def flush(self) -> None:
        """Returns when everything noted before is committed. Raises StorageUnavailable."""
        async with self._turn:
            while self._waiting or self._dropped:
                await self._write_batch()

    async def close(self) -> None:
        """Writes what waits and ends the task."""
        self._settle(self._clock() + PERIOD)  # counts of periods that are not over yet, too
        self._closing.set()
        self._noted.set()
        if self._task is not None:
            await self._task
            self._task = None
        try:
            await self.flush()
        except StorageUnavailable as error:
            _log.error("audit events lost at the end", count=self.waiting + self._dropped, reason=error.what)

    async def _run(self) -> None:
        while not self._closing.is_set():
            await self._until_noted()
            self._noted.clear()
            await self._pause(LINGER_SECONDS)
            try:
                await self.flush()
            except StorageUnavailable as error:
                _log.warning("audit events wait for the database", count=self.waiting, reason=error.what)
                self._noted.set()
                await self._pause(RETRY_SECONDS)

    async def _until_noted(self) -> None:
        """Returns when there is something to write: an event, or the count of a period that is over."""
        while not self._noted.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._noted.wait(), PERIOD.total_seconds() if self._restraint else None)
            self._settle(self._clock())

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    async def _write_batch(self) -> None:
        batch = [self._waiting[index] for index in range(min(BATCH_LIMIT, len(self._waiting)))]
        dropped = self._dropped
        count = [(self._clock(), EventsDropped(count=dropped))] if dropped else []
        try:
            await self._write([*batch, *count])
        except StorageUnavailable:
            raise
        except Exception:  # noqa: BLE001 - whatever is wrong with this batch must not stop the log for ever: count it
            _log.exception("audit events could not be written", count=len(batch) or dropped)
            self._forget(len(batch))
            self._dropped = dropped + len(batch) if batch else 0
            return
        self._forget(len(batch))
        self._dropped -= dropped

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
