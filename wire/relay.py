"""A tunnel's bytes: a TLS transport and a plain TCP transport, each copied to the other.

1. Backpressure: a side that does not take its bytes stops the other side's reading; what waits stays near
   `limits.WRITE_HIGH`.
2. Half-close goes both ways: the end of one direction ends that direction only.
3. A side that breaks off before its end resets the other, so a cut stream never looks like a whole one. One that breaks
   off after its end leaves the other what it is still owed, for as long as somebody may look away
   (`limits.STALL_DEADLINE`).
4. One tunnel that is never out of bytes leaves every turn of the event loop to the others (`limits.TURN_READS`).
5. `cut` resets both sides at once: what the kernel still holds is thrown away too.
"""

import asyncio
import contextlib
from typing import Final

from wire import limits
from wire.farewell import Farewell, reset
from wire.outlet import Outlet
from wire.records import receive_buffer
from wire.transport import TlsTransport

DONE: Final = "done"
TLS_LOST: Final = "tls_lost"
PLAIN_LOST: Final = "plain_lost"


class Held(asyncio.Protocol):
    """For a plain transport before its relay exists: reads at most once, and keeps that for the relay.

    asyncio reads nothing after `pause_reading` in `connection_made`; uvloop begins to read all the same.
    """

    def __init__(self) -> None:
        self.early = b""
        self.ended = False
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stop before the first read, where the loop heeds it."""
        self._transport = transport  # type: ignore[assignment]  # uvloop's are no instances of asyncio's classes
        self._transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        """Keep it, and stop before the second read."""
        self.early += data
        self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the other direction."""
        self.ended = True
        return True


class Relay:
    """Copies from the moment it is made until both directions ended, one side broke off, or `cut`.

    Neither transport may have been read past `to_plain` (bytes already read from `tls`) and `to_tls` (from `plain`):
    pause both before, `Held` does it for the plain one. `bytes_to_plain` and `bytes_to_tls` count exactly what was
    handed over in each direction. `closed` is done when both transports are gone, with the reason: `done`, `tls_lost`,
    `plain_lost` or what `cut` was given.
    """

    def __init__(
        self, tls: TlsTransport, plain: asyncio.Transport, *, to_plain: bytes = b"", to_tls: bytes = b""
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._tls = tls
        self._plain = plain
        self.bytes_to_plain = len(to_plain)
        self.bytes_to_tls = len(to_tls)
        self.reason = ""
        self.closed: asyncio.Future[str] = self._loop.create_future()
        self._tls_ended = self._plain_ended = False
        self._tls_gone = self._plain_gone = False
        self._parting = False  # the plain side is being closed: it is said goodbye once
        if tls.is_closing() or plain.is_closing():
            self._never_began()
            return
        plain.pause_reading()
        held = plain.get_protocol()
        if isinstance(held, Held):
            to_tls += held.early
            self.bytes_to_tls = len(to_tls)
        side = _PlainSide(self, plain, tls)
        plain.set_protocol(side)
        plain.set_write_buffer_limits(limits.WRITE_HIGH, limits.WRITE_LOW)
        tls.set_protocol(_TlsSide(self, plain, side))
        plain.resume_reading()
        tls.resume_reading()
        if to_tls:
            tls.write(to_tls)
        if to_plain:
            plain.write(to_plain)
        if isinstance(held, Held) and held.ended:
            self.plain_ended()

    def cut(self, reason: str) -> None:
        """Reset both sides now; `closed` says `reason` unless the relay was already ending for another."""
        self.reason = self.reason or reason
        self._tls.abort()
        reset(self._plain)

    def tls_ended(self) -> None:
        """The TLS peer sent its last byte."""
        self._tls_ended = True
        with contextlib.suppress(OSError, RuntimeError):  # the plain side may be breaking: its connection_lost follows
            self._plain.write_eof()
        self._finish()

    def plain_ended(self) -> None:
        """The plain peer sent its last byte."""
        self._plain_ended = True
        self._tls.write_eof()
        self._finish()

    def tls_gone(self) -> None:
        """The TLS connection is over."""
        self._tls_gone = True
        self.reason = self.reason or TLS_LOST
        if self._plain_gone:
            self._report()
        elif self._tls_ended:
            self._close_plain()
        else:
            reset(self._plain)

    def plain_gone(self) -> None:
        """The plain connection is over."""
        self._plain_gone = True
        self.reason = self.reason or PLAIN_LOST
        if self._tls_gone:
            self._report()
        elif self._plain_ended:
            self._tls.close(limits.STALL_DEADLINE)
        else:
            self._tls.abort()

    def _finish(self) -> None:
        if self._tls_ended and self._plain_ended:
            self.reason = self.reason or DONE
            self._tls.close(limits.STALL_DEADLINE)
            self._close_plain()

    def _close_plain(self) -> None:
        if self._parting:
            return
        self._parting = True
        if self._plain.get_write_buffer_size():
            Farewell(self._loop, self._plain, lambda _error: self.plain_gone(), patience=limits.STALL_DEADLINE)
        else:
            self._plain.close()

    def _never_began(self) -> None:
        self.reason = TLS_LOST if self._tls.is_closing() else PLAIN_LOST
        self.bytes_to_plain = self.bytes_to_tls = 0
        self._tls.abort()
        reset(self._plain)
        self.closed.set_result(self.reason)

    def _report(self) -> None:
        if not self.closed.done():
            self.closed.set_result(self.reason)


class _TlsSide(asyncio.Protocol):
    """Takes plaintext from the TLS transport, and its signals."""

    __slots__ = ("_other", "_push", "_relay")

    def __init__(self, relay: Relay, plain: asyncio.Transport, other: "_PlainSide") -> None:
        self._relay = relay
        self._other = other
        self._push = Outlet(plain).push

    def view_received(self, view: memoryview) -> None:
        self._relay.bytes_to_plain += len(view)
        self._push(view)

    def eof_received(self) -> bool:
        self._relay.tls_ended()
        return True

    def pause_writing(self) -> None:
        self._other.hold()

    def resume_writing(self) -> None:
        self._other.go_on()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._relay.tls_gone()


class _PlainSide(asyncio.BufferedProtocol):
    """Takes bytes from the plain transport, and its signals."""

    __slots__ = ("_full_reads", "_held", "_plain", "_relay", "_tls")

    def __init__(self, relay: Relay, plain: asyncio.Transport, tls: TlsTransport) -> None:
        self._relay = relay
        self._plain = plain
        self._tls = tls
        self._held = False
        self._full_reads = 0

    def get_buffer(self, _sizehint: int) -> memoryview:
        return receive_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._relay.bytes_to_tls += nbytes
        buffer = receive_buffer()
        if nbytes == limits.READ_SIZE:
            self._full_reads += 1
            if self._full_reads % limits.TURN_READS == 0:
                self._plain.pause_reading()
                asyncio.get_running_loop().call_soon(self._next_turn)
            self._tls.write(buffer)
        else:
            self._tls.write(buffer[:nbytes])

    def hold(self) -> None:
        """The other side has enough."""
        self._held = True
        self._plain.pause_reading()

    def go_on(self) -> None:
        """The other side takes more."""
        self._held = False
        self._plain.resume_reading()

    def _next_turn(self) -> None:
        if not (self._held or self._plain.is_closing()):
            self._plain.resume_reading()

    def eof_received(self) -> bool:
        self._relay.plain_ended()
        return True

    def pause_writing(self) -> None:
        self._tls.pause_reading()

    def resume_writing(self) -> None:
        self._tls.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._relay.plain_gone()
