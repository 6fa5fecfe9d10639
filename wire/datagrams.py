"""A tunnel's datagrams: capsules on a TLS transport, both ways. The gateway and the client use the same.

1. Nothing waits beyond `limits.DATAGRAM_QUEUE`: while the peer does not take what it is owed, further datagrams are
   dropped and counted. Nothing else slows a sender of datagrams down, and late ones help nobody.
2. At most `limits.DATAGRAM_BURST` capsules are handled in one go; the peer's next bytes wait in the socket meanwhile.
3. UDP has no half-close: the end of one direction is the end of both. What ends inside a capsule was cut short, and
   counts as a break.
4. `datagrams` counts those carried, both ways: who ends idle tunnels looks whether it stands still. Capsules that are
   skipped keep nothing alive.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from wire import limits
from wire.capsule import BadCapsule, CapsuleReader, encode_datagram
from wire.relay import DONE, TLS_LOST
from wire.transport import TlsTransport

BAD_CAPSULE: Final = "bad_capsule"


class Datagrams(asyncio.Protocol):
    """Carries datagrams from the moment it is made; `deliver` gets each payload that arrives.

    The transport may not have been read past `early`: pause it before. `closed` is done when the transport is gone,
    with the reason: `done`, `tls_lost`, `bad_capsule` or what `cut` or `close` was given.
    """

    def __init__(self, tls: TlsTransport, deliver: Callable[[bytes], None], *, early: bytes = b"") -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._deliver = deliver
        self._reader = CapsuleReader()
        self._full = False
        self._dropped = 0
        self.datagrams = 0
        self.bytes_sent = 0
        self.reason = ""
        self.closed: asyncio.Future[str] = self._loop.create_future()
        if tls.is_closing():
            self._over(TLS_LOST)
            return
        tls.set_protocol(self)
        tls.set_write_buffer_limits(limits.DATAGRAM_QUEUE, limits.DATAGRAM_QUEUE // 4)
        self._reader.feed(early)
        self._loop.call_soon(self._work)

    @property
    def dropped(self) -> int:
        """Datagrams that were not carried: the peer was too slow, or they were too large."""
        return self._dropped + self._reader.oversized

    @property
    def ending(self) -> bool:
        """Whether it carries nothing any more; `closed` follows when the peer has been told."""
        return self._tls.is_closing()

    def send(self, payloads: Iterable[bytes]) -> None:
        """Datagrams for the peer, sealed together where that is possible."""
        if self.ending:
            return
        capsules = bytearray()
        for payload in payloads:
            if self._full or len(payload) > limits.MAX_DATAGRAM:
                self._dropped += 1
                continue
            self.datagrams += 1
            self.bytes_sent += len(payload)
            capsules += encode_datagram(payload)
            if len(capsules) >= limits.TLS_RECORD_PLAINTEXT:
                self._tls.write(capsules)
                capsules = bytearray()
        self._tls.write(capsules)

    def close(self, reason: str = DONE) -> None:
        """Ends the tunnel in order; `closed` says `reason` unless it was already ending for another."""
        self.reason = self.reason or reason
        self._tls.close()

    def cut(self, reason: str) -> None:
        """Resets the connection now."""
        self.reason = self.reason or reason
        self._tls.abort()

    # The protocol of the TLS transport

    def view_received(self, view: memoryview) -> None:
        """Capsules, or parts of some."""
        self._reader.feed(view)
        self._work()

    def eof_received(self) -> bool:
        """The peer sends no more."""
        if self._reader.unfinished:
            self.cut(BAD_CAPSULE)
        self.reason = self.reason or DONE
        return False

    def pause_writing(self) -> None:
        """The peer is too slow."""
        self._full = True

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self._full = False

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection is over."""
        self._over(TLS_LOST)

    # Inside

    def _work(self) -> None:
        """Hands over what has arrived; what is more than a burst, in the loop's next turn."""
        if self.ending:
            return
        try:
            payloads, again = self._reader.take(limits.DATAGRAM_BURST)
        except BadCapsule:
            self.cut(BAD_CAPSULE)
            return
        self.datagrams += len(payloads)
        for payload in payloads:
            self._deliver(payload)
        if again:
            self._tls.pause_reading()
            self._loop.call_soon(self._work)
        else:
            self._tls.resume_reading()

    def _over(self, reason: str) -> None:
        self.reason = self.reason or reason
        if not self.closed.done():
            self.closed.set_result(self.reason)
