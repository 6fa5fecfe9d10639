"""Control connections that are verified: how many one peer may have, and for how long without a request (a server's).

Laws:

1. A connection without a request does not stay: the first one is whole within `HEAD_DEADLINE`, and the next one within
   `KEEP_ALIVE` of the last answer (which aiohttp sees to). A WebSocket is one request, as long as it lives.
2. A peer has `PEER_CONNECTIONS` at most. Peers without a certificate (enrolment, recovery) are told apart by their
   address and have fewer, in all too: an open window lets in everybody behind it.
3. The newest is let in and the oldest leaves, so nobody can lock others out by holding what there is.
"""

import asyncio
from typing import Any, cast

from wire import limits
from wire.pending import Bounds, Room, source_of


class Attendance:
    """The connections of one server that are being served."""

    def __init__(self) -> None:
        self._named: Room[Attendant] = Room(Bounds(limits.CONTROL_CONNECTIONS, limits.PEER_CONNECTIONS))
        self._nameless: Room[Attendant] = Room(Bounds(limits.NAMELESS_CONNECTIONS, limits.NAMELESS_PER_SOURCE))
        self._unheard: dict[asyncio.Protocol, Attendant] = {}  # by aiohttp's protocol

    def __len__(self) -> int:
        return len(self._named) + len(self._nameless)

    def attend(self, inner: asyncio.Protocol) -> "Attendant":
        """The protocol to put between a transport and aiohttp's `inner` one."""
        return Attendant(self, inner)

    def heard(self, inner: asyncio.Protocol | None) -> None:
        """A whole request has come on this connection."""
        if inner is not None and (attendant := self._unheard.pop(inner, None)) is not None:
            attendant.heard()

    def enter(self, attendant: "Attendant", inner: asyncio.Protocol, transport: asyncio.BaseTransport) -> None:
        """A verified connection begins."""
        peer = transport.get_extra_info("peer")
        if peer is not None:
            gone = self._named.enter(attendant, str(peer))
        else:
            place = transport.get_extra_info("peername")
            gone = self._nameless.enter(attendant, source_of(str(place[0])) if place else "")
        self._unheard[inner] = attendant
        if gone is not None:
            gone.abort()

    def leave(self, attendant: "Attendant", inner: asyncio.Protocol) -> None:
        """It is over."""
        self._named.leave(attendant)
        self._nameless.leave(attendant)
        self._unheard.pop(inner, None)


class Attendant(asyncio.Protocol):
    """One connection: hands everything on, and ends it when its time is over or its place is needed."""

    def __init__(self, attendance: Attendance, inner: asyncio.Protocol) -> None:
        self._attendance = attendance
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def heard(self) -> None:
        """It has said something whole."""
        if self._deadline is not None:
            self._deadline.cancel()

    def abort(self) -> None:
        """Ends it without a word."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """`asyncio.Protocol`; so is what follows."""
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = asyncio.get_running_loop().call_later(limits.HEAD_DEADLINE, self.abort)
        self._inner.connection_made(transport)
        self._attendance.enter(self, self._inner, transport)

    def data_received(self, data: bytes) -> None:  # noqa: D102
        self._inner.data_received(data)

    def eof_received(self) -> Any:  # noqa: D102
        return self._inner.eof_received()

    def pause_writing(self) -> None:  # noqa: D102
        self._inner.pause_writing()

    def resume_writing(self) -> None:  # noqa: D102
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        self.heard()
        self._attendance.leave(self, self._inner)
        self._inner.connection_lost(exc)
