"""Arrivals: accepted sockets on their way to a verified peer, a server's side of `wire.handshake`.

Laws:

1. A peer that has not said a word costs a socket and a timer: no transport, no task and nothing of OpenSSL's before its
   first byte.
2. How many peers may be unverified, and which of them gives way, `wire.pending` decides.
3. A peer that leaves without a word was refused nothing: clients begin several connections and keep the first.
4. Refusals are told one by one while they are few, and counted when they are many.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol

from console.address import plain_host
from wire.errors import TlsRefusal, TlsRefused
from wire.farewell import reset_socket
from wire.handshake import Handshake, Policy, require_open
from wire.pending import Pending
from wire.transport import TlsTransport

OnRefused = Callable[[TlsRefusal], None]
_PEEK: Final = socket.MSG_PEEK | socket.MSG_DONTWAIT


class Told:
    """Bounds how many refusals are told in a second, and counts those that were not."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._second = -1
        self._count = 0
        self._kept_back = 0

    def tell(self, sentence: str, now: float) -> str | None:
        """The sentence to tell at `now` (monotonic seconds), with what was kept back before it; None: keep it back."""
        if int(now) != self._second:
            self._second, self._count = int(now), 0
        if self._count >= self._most:
            self._kept_back += 1
            return None
        self._count += 1
        if self._kept_back:
            sentence += f" (and {self._kept_back} handshakes before it failed that are not told one by one)"
            self._kept_back = 0
        return sentence


class ServerPolicy(Policy, Protocol):
    """A server's policy also knows the peers it has not verified yet, and how many refusals were told lately."""

    pending: Pending["Arrival"]
    told: Told


def ignore_refusal(_refusal: TlsRefusal) -> None:
    """For servers that audit nothing."""


def ignore_over() -> None:
    """For servers that keep no account of who came."""


class Arrival:
    """One accepted socket until its peer is verified or refused."""

    __slots__ = (
        "_attaching",
        "_handshake",
        "_loop",
        "_on_over",
        "_on_refused",
        "_policy",
        "_sock",
        "_source",
        "_waiting",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        policy: ServerPolicy,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        on_refused: OnRefused,
        on_over: Callable[[], None],
        timeout: float,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._policy = policy
        self._on_refused, self._on_over = on_refused, on_over
        self._source = _source(sock)
        self._attaching: asyncio.Task[None] | None = None
        self._waiting = False  # for the first byte, with nothing of ours on the socket yet
        self._handshake = Handshake(
            loop,
            policy,
            timeout=timeout,
            make_protocol=protocol_factory,
            on_done=self._settle,
            on_refused=self._fail,
            waits=True,
        )

    @property
    def spoken(self) -> bool:
        """Has the peer sent anything at all?"""
        return self._handshake.spoken

    def begin(self) -> None:
        """Takes its place among those who wait; somebody else may have to go."""
        _show_out(self._policy.pending.add(self, self._source[0]))
        if _has_spoken(self._sock):
            self._attach()
        else:
            self._waiting = True
            self._loop.add_reader(self._sock, self._hear)

    def refuse(self, refused: TlsRefused) -> None:
        """End it with a reason, if it has not ended."""
        self._handshake.refuse(refused)

    def _hear(self) -> None:
        if _has_left(self._sock):
            self.refuse(TlsRefused("closed", "the peer left without a word"))
            return
        self._loop.remove_reader(self._sock)
        self._waiting = False
        self._attach()

    def _attach(self) -> None:
        _show_out(self._policy.pending.spoke(self))
        self._attaching = self._loop.create_task(self._hand_to_asyncio())

    async def _hand_to_asyncio(self) -> None:
        try:
            require_open(self._sock)
            await self._loop.connect_accepted_socket(lambda: self._handshake, self._sock)
        except OSError as error:
            self._sock.close()
            self.refuse(TlsRefused("closed", f"the peer was gone before the handshake: {error}"))
        except asyncio.CancelledError:
            self._sock.close()
            self.refuse(TlsRefused("cancelled", "the server is stopping"))
            raise

    def _settle(self, _transport: TlsTransport) -> None:
        self._policy.pending.discard(self)

    def _fail(self, refused: TlsRefused, presented: str) -> None:
        self._policy.pending.discard(self)
        if self._waiting:
            self._waiting = False
            self._loop.remove_reader(self._sock)
            reset_socket(self._sock)
        if refused.reason == "closed" and not self.spoken:
            self._on_over()
            return
        if (sentence := self._policy.told.tell(str(refused), self._loop.time())) is not None:
            self._on_refused(TlsRefusal(refused.reason, sentence, self._source, presented))
        self._on_over()


def accept(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    policy: ServerPolicy,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    *,
    on_refused: OnRefused,
    on_over: Callable[[], None],
    timeout: float,
) -> None:
    """`wire.tls.accept_tls`."""
    Arrival(loop, sock, policy, protocol_factory, on_refused=on_refused, on_over=on_over, timeout=timeout).begin()


def _show_out(gave_way: Arrival | None) -> None:
    if gave_way is not None:
        gave_way.refuse(TlsRefused("too_many", "too many handshakes at once, and this one was the oldest to wait"))


def _has_spoken(sock: socket.socket) -> bool:
    """Is there anything to read, or nothing to wait for?"""
    try:
        sock.recv(1, _PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _has_left(sock: socket.socket) -> bool:
    """Has the peer of a socket that can be read said nothing but its end?"""
    try:
        return not sock.recv(1, _PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _source(sock: socket.socket) -> tuple[str, int]:
    try:
        name = sock.getpeername()
    except OSError:
        return ("", 0)
    return (plain_host(str(name[0])), int(name[1])) if isinstance(name, tuple) else (str(name), 0)
