"""The gateway's end of its link: from the controller's changes to acknowledgements, and from reports to the controller.

1. Changes are applied in order, one at a time; the highest applied number is acknowledged once it is in force.
2. A message that is not in the protocol ends the link; the controller audits its side, our log has ours.
3. Whatever ends a link, another attempt follows, at the next controller, after a jittered wait. Meanwhile leases live
   on their outage grace, and every attempt that fails says how long is left.
4. The outage is over when nothing of it is missing: after a snapshot, or after the last change `resumed` announced.
5. A link that brings nothing for `PINGS_MISSED` ping periods is dead.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, assert_never
from uuid import UUID

import aiohttp
import structlog
from aiohttp import ClientWebSocketResponse, WSMsgType

from gateway import limits
from gateway.backoff import Backoff
from gateway.enforcement import Ended, Enforcement
from gateway.leases import ControllerTime
from gateway.reports import RefusedKnocks, Reports
from wire.errors import RemoteError, WireError
from wire.messages import (
    Acknowledged,
    ControllerAddress,
    Counters,
    FromGateway,
    Hello,
    LeaseDrop,
    LeasePut,
    Ping,
    Report,
    Reported,
    Resources,
    Resumed,
    Snapshot,
    ToGateway,
    TrustPut,
    Welcome,
    decode,
    to_gateway,
)
from wire.together import until_one_ends

log = structlog.get_logger()

Connect = Callable[[ControllerAddress], AbstractAsyncContextManager[ClientWebSocketResponse]]
_PROTOCOL_ERROR: Final = 1002


class LinkLost(Exception):  # noqa: N818 - an end, not always an error
    """This link is over; `str()` says why."""


@dataclass(slots=True)
class LinkState:
    """For `status`: which controller, since when up or down, and what happened last."""

    up: bool = False
    controller: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    problem: str = ""
    applied: int = 0
    attempts: int = 0  # in a row that came to nothing


class Link:
    """The link to whichever controller answers. `run` keeps it up; `ready` is set by the first snapshot."""

    def __init__(
        self,
        controllers: Sequence[ControllerAddress],
        connect: Connect,
        enforcement: Enforcement,
        believe: Callable[[str], Awaitable[None]],
        *,
        counters: Callable[[int], Counters],
        cloak: Callable[[], str],
        version: str,
        random: Callable[[], float],
        clock: Callable[[], float],
        reports: Reports | None = None,
    ) -> None:
        self._controllers = tuple(controllers)
        self._connect = connect
        self._enforcement = enforcement
        self._believe = believe
        self._counters = counters
        self._cloak = cloak
        self._version = version
        self._random = random
        self._clock = clock
        self._reports = Reports() if reports is None else reports
        self._refused_knocks = RefusedKnocks()
        self._wake = asyncio.Event()
        self._told: Counters | None = None
        self._counters_due = 0.0
        self._stream: UUID | None = None
        self._time: ControllerTime | None = None
        self._grace = 0.0
        self._in_outage = False
        self._caught_up_at: int | None = None  # the change that ends the outage, once `resumed` named it
        self.ready = asyncio.Event()
        self._hurry = asyncio.Event()
        self.state = LinkState()

    # What the rest of the gateway tells the controller

    def report(self, report: Report) -> None:
        """Tells the controller, now or when there is a link again."""
        self._reports.add(report)
        self._wake.set()

    def knock_refused(self, key_id: str, source: str, code: str) -> None:
        """Counts a refused knock under a known key; told once a period."""
        self._refused_knocks.add(key_id, source, code)

    def counters_changed(self) -> None:
        """Tells the counters of this moment, and not first when their period is over."""
        self._counters_due = 0.0
        self._wake.set()

    def retry(self) -> None:
        """What stood in the way may be gone: no waiting for the next attempt."""
        self._hurry.set()

    @property
    def reports_waiting(self) -> int:
        """Reports not told yet."""
        return len(self._reports)

    @property
    def reports_lost(self) -> int:
        """Reports that outages were too long for."""
        return self._reports.lost

    @property
    def time_ahead(self) -> float:
        """Seconds the controller's clock is ahead of this machine's; 0 before the first link."""
        if self._time is None:
            return 0.0
        return self._time.at(self._clock()).timestamp() - time.time()

    async def told_everything(self, deadline: float) -> bool:
        """Waits until every report so far was handed over, at most `deadline` seconds."""
        self._tell_refused_knocks()
        try:
            async with asyncio.timeout(deadline):
                while len(self._reports):
                    if not self.state.up:
                        return False
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True

    # The life of the link

    async def run(self) -> None:
        """Connects, speaks, and connects again. Runs until it is cancelled."""
        backoff = Backoff()
        attempt = 0
        while True:
            address = self._controllers[attempt % len(self._controllers)]
            attempt += 1
            began = self._clock()
            problem = await self._once(address)
            backoff = backoff.worked() if self._clock() - began >= limits.LINK_STABLE else backoff.failed()
            self._down(address, problem)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.wait(self._random)):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _once(self, address: ControllerAddress) -> str:
        """One link, from the knock to its end; answers why it ended."""
        try:
            async with asyncio.timeout(limits.LINK_DEADLINE) as deadline, self._connect(address) as socket:
                return await self._speak(socket, address, deadline)
        except TimeoutError:
            return f"no link within {limits.LINK_DEADLINE:g} s"
        except aiohttp.WSServerHandshakeError as error:
            return f"the controller refused the link (HTTP {error.status})"
        except (OSError, aiohttp.ClientError, WireError) as error:
            return str(error) or type(error).__name__

    def _down(self, address: ControllerAddress, problem: str) -> None:
        state = self.state
        was_up, state.up, state.problem = state.up, False, problem
        state.attempts = 0 if was_up else state.attempts + 1
        if was_up:
            state.since = datetime.now(UTC)
        if self.ready.is_set() and not self._in_outage:
            self._in_outage = True
            self._enforcement.begin_outage(self._grace)
        left = self._enforcement.seconds_left()
        log.warning(
            "link lost" if was_up else "controller not reached",
            controller=address.name,
            problem=problem,
            leases_left_seconds=None if left is None else round(left, 1),
            reports_waiting=len(self._reports),
        )

    async def _speak(
        self, socket: ClientWebSocketResponse, address: ControllerAddress, deadline: asyncio.Timeout
    ) -> str:
        hello = Hello(stream=self._stream, seq=self.state.applied, version=self._version, cloak=self._cloak())
        await self._send(socket, hello)
        try:
            welcome = await self._receive_welcome(socket)
            first = await self._receive(socket, limits.LINK_DEADLINE)
            await self._begin(socket, first)
            deadline.reschedule(None)
            self._up(address, first)
            await until_one_ends(self._read(socket, welcome.ping_seconds * limits.PINGS_MISSED), self._write(socket))
        except RemoteError as error:
            if isinstance(error, OSError):  # of TLS, not of the messages
                raise
            log.error("the controller broke the protocol", problem=str(error))
            await socket.close(code=_PROTOCOL_ERROR, message=str(error).encode()[:120])
            return f"protocol error: {error}"
        except LinkLost as lost:
            return str(lost)
        raise AssertionError("a link's tasks end only by raising")  # pragma: no cover

    def _up(self, address: ControllerAddress, first: ToGateway) -> None:
        state = self.state
        state.up, state.controller, state.since, state.problem = True, address.name, datetime.now(UTC), ""
        state.attempts = 0
        self._told = None
        log.info(
            "link up",
            controller=address.name,
            by=first.type,
            applied=state.applied,
            leases=len(self._enforcement.leases),
        )
        self.ready.set()

    # What the controller says

    async def _receive(self, socket: ClientWebSocketResponse, deadline: float) -> ToGateway:
        try:
            received = await socket.receive(timeout=deadline)
        except TimeoutError:
            raise LinkLost(f"nothing came for {deadline:g} s") from None
        match received.type:
            case WSMsgType.TEXT:
                return decode(to_gateway, received.data)
            case WSMsgType.BINARY:
                raise RemoteError("a binary message")
            case WSMsgType.ERROR:
                raise RemoteError(f"not a message: {received.data}")
            case _:
                said = f"{received.extra}" if received.type is WSMsgType.CLOSE and received.extra else "no reason given"
                raise LinkLost(f"the controller closed the link ({socket.close_code}: {said})")

    async def _receive_welcome(self, socket: ClientWebSocketResponse) -> Welcome:
        welcome = await self._receive(socket, limits.LINK_DEADLINE)
        if not isinstance(welcome, Welcome):
            raise RemoteError(f"{welcome.type} before welcome")
        self._time = ControllerTime(welcome.time, self._clock())
        self._grace = welcome.outage_grace_seconds
        return welcome

    async def _begin(self, socket: ClientWebSocketResponse, first: ToGateway) -> None:
        match first:
            case Snapshot():
                await self._apply(socket, first)
            case Resumed(stream=stream, seq=seq):
                if stream != self._stream or seq < self.state.applied:
                    raise RemoteError("resumed a stream that is not ours")
                self._caught_up_at = seq
                await self._catch_up()
            case _:
                raise RemoteError(f"{first.type} before a snapshot")

    async def _read(self, socket: ClientWebSocketResponse, deadline: float) -> None:
        while True:
            message = await self._receive(socket, deadline)
            match message:
                case Ping():
                    self._time = ControllerTime(message.time, self._clock())
                    await self._send(socket, Acknowledged(seq=self.state.applied))
                case Snapshot() | LeasePut() | LeaseDrop() | Resources() | TrustPut():
                    await self._apply(socket, message)
                case Welcome() | Resumed():
                    raise RemoteError(f"a second {message.type}")
                case _:
                    assert_never(message)

    async def _apply(
        self, socket: ClientWebSocketResponse, change: Snapshot | LeasePut | LeaseDrop | Resources | TrustPut
    ) -> None:
        if self._time is None:
            raise RemoteError(f"{change.type} before welcome")
        if isinstance(change, Snapshot):
            self._stream = change.stream
            self._caught_up_at = change.seq
        elif change.seq != self.state.applied + 1:
            raise RemoteError(f"change {change.seq} after {self.state.applied}")
        if isinstance(change, Snapshot | TrustPut):
            await self._believe(change.trust)  # before its leases: their sessions may be of a new intermediate
        if not isinstance(change, TrustPut):
            await _in_force(self._enforcement.apply(change, self._time))
        self.state.applied = change.seq
        await self._catch_up()
        await self._send(socket, Acknowledged(seq=change.seq))

    async def _catch_up(self) -> None:
        if self._caught_up_at is not None and self.state.applied >= self._caught_up_at:
            self._caught_up_at = None
            self._in_outage = False
            await _in_force(self._enforcement.end_outage())

    # What we say

    async def _write(self, socket: ClientWebSocketResponse) -> None:
        next_knocks = self._clock()
        self._counters_due = 0.0
        while True:
            self._wake.clear()
            now = self._clock()
            if now >= next_knocks:
                next_knocks = now + limits.KNOCK_REPORT_PERIOD
                self._tell_refused_knocks()
            while reports := self._reports.next():
                await self._send(socket, Reported(reports=reports))
                self._reports.sent(reports)
            if now >= self._counters_due:
                self._counters_due = now + limits.COUNTERS_PERIOD
                counters = self._counters(self._reports.lost)
                if counters != self._told:
                    await self._send(socket, counters)
                    self._told = counters
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limits.KNOCK_REPORT_PERIOD):
                    await self._wake.wait()
            if self._reports:
                await asyncio.sleep(limits.REPORT_LEISURE)

    def _tell_refused_knocks(self) -> None:
        for report in self._refused_knocks.take(datetime.now(UTC)):
            self._reports.add(report)

    async def _send(self, socket: ClientWebSocketResponse, message: FromGateway) -> None:
        try:
            await socket.send_str(message.model_dump_json())
        except (ConnectionError, RuntimeError) as error:
            raise LinkLost(f"the connection was lost: {error}") from error


async def _in_force(ended: list[Ended]) -> None:
    """Returns once every tunnel that was cut is gone: both its sockets are closed."""
    if not ended:
        return
    _, pending = await asyncio.wait(ended, timeout=limits.CUT_DEADLINE)
    if pending:
        log.error("cutting tunnels takes longer than promised", tunnels=len(pending), bound_seconds=limits.CUT_DEADLINE)
        await asyncio.wait(pending)
