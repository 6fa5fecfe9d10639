"""The main process's side of tunnels: who gets which connection, what each may do, and what is cut.

1. The least loaded worker gets a connection; workers that have begun before those that are only starting.
2. Every question is answered here and now, by the leases of this moment. What was asked before a cut is judged by what
   is left after it, and worker and main process hear each other in order: no permit overtakes a cut.
3. A cut is in force when every worker concerned has confirmed it or is gone.
4. A worker that ends unasked is replaced at once; its tunnels are lost, counted, and told to the controller as closed.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never
from uuid import UUID, uuid4

import structlog

from gateway import limits
from gateway.backoff import Backoff
from gateway.leases import Carried, Cut, Reach, Refusal
from gateway.workers.channel import Breach
from gateway.workers.ledger import Connection, Impossible, Ledger
from gateway.workers.messages import (
    Asks,
    Closed,
    Counted,
    CutDone,
    Declined,
    Ended,
    Opened,
    Parked,
    Ready,
    Reloaded,
    Start,
    ToMain,
    Unverified,
    Verified,
)
from gateway.workers.worker import Worker
from spa.door import reset
from spa.source import Source
from wire.messages import Permit, Report

log = structlog.get_logger()

LOST: Final = "worker_lost"

Permits = Callable[[UUID, frozenset[str], str, int, Carried], Permit | Refusal]
"""(session, key ids that knocked, resource, port, what it shall carry) -> the permit, or why not."""


class _Slot:
    """The place of one worker: who is in it now, and how long the next one waits."""

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.backoff = Backoff()
        self.next: asyncio.TimerHandle | None = None
        self.has_begun = asyncio.Event()


class Dispatcher:
    """All workers of this gateway, and all they have."""

    def __init__(
        self,
        workers: int,
        state: Path,
        start: Start,
        permits: Permits,
        report: Callable[[Report], None],
        *,
        most: int,
        most_of_session: int,
        random: Callable[[], float],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = [_Slot() for _ in range(workers)]
        self._state = state
        self._start = start
        self._permits = permits
        self._report = report
        self._random = random
        self._ledger = Ledger(most, most_of_session)
        self._started = 0
        self._stopping = False
        self._changed = asyncio.Event()
        self.opened = 0
        self.refused = 0
        self.workers_lost = 0
        self.turned_away = 0  # connections no worker could take

    def start(self) -> None:
        """Starts the workers. They serve once they have begun; until then connections wait in their channels."""
        for slot in self._slots:
            self._fill(slot)

    async def begun(self) -> None:
        """Waits until every worker has served, even if it is gone again."""
        for slot in self._slots:
            await slot.has_begun.wait()

    def accept(self, sock: socket.socket, source: Source) -> None:
        """A connection through the door, for the least loaded worker. Without any it is reset."""
        worker = self._choose()
        if worker is None:
            self.turned_away += 1
            reset(sock)
            return
        tunnel = uuid4()
        self._ledger.take(tunnel, worker.number, source, self._loop.time())
        worker.take(tunnel, sock)

    def cut(self, cut: Cut) -> list[asyncio.Future[str]]:
        """Cuts the session's tunnels that reach nothing in `cut.kept`; the futures are done when they are gone."""
        return self._cut(self._ledger.doomed(cut), cut.code)

    async def drain(self, deadline: float) -> int:
        """Waits at most `deadline` seconds for tunnels to end, cuts the rest; answers how many tunnels were cut.

        Nobody gets a new one meanwhile: connections that have not asked leave without a word, and ask elsewhere.
        """
        self._leave(self._ledger.close())
        try:
            async with asyncio.timeout(deadline):
                await self._until(lambda: not self._ledger.asked)
        except TimeoutError:
            pass
        rest = self._ledger.open
        if ended := self._cut(self._ledger.everything(), "gateway_stopped"):
            await asyncio.wait(ended)
        try:
            async with asyncio.timeout(limits.WORKER_STOP):
                await self._until(lambda: not self._ledger.open)  # their last reports, which follow the cuts
        except TimeoutError:
            log.warning("tunnels that were cut are not closed yet", tunnels=self._ledger.open)
        return rest

    async def reload(self) -> None:
        """Returns once every handshake begins with the identity and trust on the disk; tunnels go on as they are."""
        if waiting := [slot.worker.reload() for slot in self._slots if slot.worker is not None]:
            await asyncio.wait(waiting)

    async def stop(self) -> None:
        """Ends every worker; what they still have is reset."""
        self._stopping = True
        workers = [slot.worker for slot in self._slots if slot.worker is not None]
        for slot in self._slots:
            if slot.next is not None:
                slot.next.cancel()
        for worker in workers:
            worker.stop()
        for worker in workers:
            await asyncio.shield(worker.exited)

    # For status

    def __len__(self) -> int:
        """Tunnels that carry bytes."""
        return self._ledger.open

    @property
    def counters(self) -> dict[str, int]:
        """Totals since the start."""
        return {
            "opened": self.opened,
            "refused": self.refused,
            "workers_lost": self.workers_lost,
            "turned_away": self.turned_away,
            "parked": self._ledger.parked,
        }

    @property
    def connections(self) -> Iterable[Connection]:
        """What the workers have."""
        return self._ledger

    @property
    def workers(self) -> list[tuple[Worker, int]]:
        """The workers there are, and how many connections each has."""
        found = [slot.worker for slot in self._slots if slot.worker is not None]
        return [(each, self._ledger.load(each.number)) for each in found]

    async def count(self) -> None:
        """Has every worker say what went through its tunnels, as far as it answers in time."""
        if counting := [each.count() for each, _ in self.workers]:
            await asyncio.wait(counting, timeout=limits.COUNT_DEADLINE)

    # Workers come and go

    def _fill(self, slot: _Slot) -> None:
        slot.next = None
        self._started += 1
        try:
            slot.worker = Worker(self._started, self._state, self._start, self)
        except OSError as error:
            log.error("a worker cannot be started", problem=str(error))
            self._fill_later(slot, Backoff.failed)

    def _fill_later(self, slot: _Slot, then: Callable[[Backoff], Backoff]) -> None:
        wait = slot.backoff.wait(self._random)
        slot.backoff = then(slot.backoff)
        slot.next = self._loop.call_later(wait, self._fill, slot)

    def ready(self, worker: Worker) -> None:
        """`worker.Owner`."""
        for slot in self._slots:
            if slot.worker is worker:
                slot.has_begun.set()

    def gone(self, worker: Worker) -> None:
        """`worker.Owner`."""
        now = self._loop.time()
        tunnels, connections = self._ledger.lose(worker.number, LOST, now, datetime.now(UTC))
        for each in tunnels:
            self._report(each)
        self._changed.set()
        slot = next(slot for slot in self._slots if slot.worker is worker)
        slot.worker = None
        if self._stopping:
            return
        self.workers_lost += 1
        log.error("worker lost", pid=worker.pid, why=worker.how_it_ended, tunnels=len(tunnels), connections=connections)
        if now - worker.began >= limits.WORKER_STABLE:
            slot.backoff = slot.backoff.worked()
            self._fill(slot)
        else:
            self._fill_later(slot, Backoff.failed)

    def _choose(self) -> Worker | None:
        overdue = self._loop.time() - limits.WORKER_SILENCE
        usable = []
        for slot in self._slots:
            worker = slot.worker
            if worker is None or not worker.usable:
                continue
            oldest = self._ledger.longest_unverified(worker.number)
            if worker.is_ready and oldest is not None and oldest < overdue:
                worker.kill("it says nothing of its connections")
                continue
            usable.append(worker)
        ready = [each for each in usable if each.is_ready] or usable
        return min(ready, key=lambda each: (self._ledger.load(each.number), each.last_taken), default=None)

    # What workers say

    def heard(self, worker: Worker, message: ToMain) -> None:
        """`worker.Owner`."""
        try:
            self._heard(worker, message)
        except Impossible as impossible:
            raise Breach(str(impossible)) from impossible

    def _heard(self, worker: Worker, message: ToMain) -> None:
        match message:
            case Verified(tunnel=tunnel, session=session):
                refusal, leaving = self._ledger.verify(worker.number, tunnel, session)
                self._leave(leaving)
                if refusal is not None:
                    worker.answer(tunnel, refusal)
            case Parked(tunnel=tunnel):
                self._leave(self._ledger.park(worker.number, tunnel))
            case Asks():
                self._answer(worker, message)
            case Opened() | Closed() | Declined() | Unverified():
                self._told(worker, message)
            case Ended(tunnel=tunnel):
                self._ledger.end(worker.number, tunnel)
                self._changed.set()
            case Counted(tunnels=tunnels):
                for tunnel, *counts in tunnels:
                    self._ledger.count(worker.number, tunnel, *counts)
            case Ready() | CutDone() | Reloaded():
                raise AssertionError("the worker keeps these to itself")
            case _:
                assert_never(message)

    def _answer(self, worker: Worker, asks: Asks) -> None:
        connection = self._ledger.ask(worker.number, asks)
        if connection is None:
            return
        answer = self._permits(connection.session, connection.source.key_ids, asks.name, asks.port, asks.protocol)
        if isinstance(answer, Refusal):
            worker.answer(asks.tunnel, answer)
            return
        reach = Reach.of(answer)  # the policies behind it are the controller's business, and of any length
        self._ledger.permit(connection, reach)
        worker.answer(asks.tunnel, reach)

    def _told(self, worker: Worker, said: Opened | Closed | Declined | Unverified) -> None:
        at = datetime.now(UTC)
        match said:
            case Opened():
                self._report(self._ledger.opened(worker.number, said, self._loop.time(), at))
                self.opened += 1
            case Closed():
                self._report(self._ledger.closed(worker.number, said, at))
            case Declined():
                self._report(self._ledger.declined(worker.number, said, at))
                self.refused += 1
            case Unverified():
                self._report(self._ledger.unverified(worker.number, said, at))
            case _:
                assert_never(said)

    # Inside

    def _cut(self, doomed: dict[int, list[UUID]], code: str) -> list[asyncio.Future[str]]:
        ended: list[asyncio.Future[str]] = []
        for worker, _ in self.workers:
            if tunnels := doomed.get(worker.number):
                ended += worker.cut(tunnels, code)
        return ended

    def _leave(self, leaving: list[Connection]) -> None:
        workers = {worker.number: worker for worker, _ in self.workers}
        for each in leaving:
            workers[each.worker].leave(each.tunnel)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
