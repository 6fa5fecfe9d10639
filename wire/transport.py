"""An established TLS connection as an asyncio transport, over pyOpenSSL's memory BIOs.

1. Half-close is TLS's own: `write_eof` sends close_notify and reading goes on; the peer's is `eof_received`.
2. A peer that stops without close_notify is `Truncated`, never a clean end.
3. Memory is bounded: what the peer does not take waits in the socket transport below, which pauses the protocol; what
   the protocol does not take is left in the socket.
4. A protocol with `view_received(view)` gets the plaintext of one socket read as a view it must copy or pass on before
   it returns; others get `data_received`, also once a read.
5. A socket that is never empty has its share of a turn of the event loop and no more (`limits.TURN_READS`).
6. After `close` the protocol hears nothing but `connection_lost`, which comes when the socket is gone.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterable
from typing import Any, Final

from wire import limits
from wire.errors import TlsRefused, Truncated
from wire.farewell import Farewell, reset
from wire.outlet import Outlet
from wire.records import Records, receive_buffer

_SLICE: Final = limits.SLICE
_FULL: Final = limits.READ_SIZE
_NOBODY: Final = asyncio.Protocol()


class TlsTransport(asyncio.Transport):
    """Plaintext in and out of an established TLS connection. Made by `wire.tls.connect_tls` and `accept_tls`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lower: asyncio.Transport,
        records: Records,
        protocol: asyncio.BaseProtocol,
        extra: dict[str, Any],
    ) -> None:
        super().__init__()
        self._known = extra
        self._loop = loop
        self._lower = lower
        self._records = records
        self._outlet = Outlet(lower)
        self._paused = False
        self._full_reads = 0
        self._eof_sent = False
        self._eof_received = False
        self._fin_received = False
        self._closing = False
        self._error: Exception | None = None
        self._gone = False
        self.set_protocol(protocol)
        lower.set_write_buffer_limits(limits.WRITE_HIGH, limits.WRITE_LOW)
        with contextlib.suppress(OSError):  # asyncio does it only for sockets that were made by naming TCP
            lower.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Take the socket over and bring the protocol to life; plaintext that came with the handshake follows."""
        self._lower.set_protocol(_Ciphertext(self))
        self._protocol.connection_made(self)
        self.received(0)

    # What asyncio asks of a transport ---------------------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who gets the plaintext from here on."""
        self._protocol = protocol
        self._view_received = getattr(protocol, "view_received", None)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who gets the plaintext."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`peer`, `peer_certificate`, `group`, `alpn`, `presented`, `ssl_object`, and what the socket knows."""
        if name in self._known:
            return self._known[name]
        if name == "ssl_object":
            return self._records.connection
        if name == "sslcontext":
            return self._records.connection.get_context()
        return self._lower.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal and send; what the socket does not take waits below and pauses the protocol."""
        if self._closing or not data:
            return
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof()")
        if isinstance(data, memoryview) and data.format != "B":
            data = data.cast("B")
        try:
            if len(data) <= _SLICE:
                self._outlet.push(self._records.seal(data))
            else:
                view = memoryview(data)
                for start in range(0, len(view), _SLICE):
                    self._outlet.push(self._records.seal(view[start : start + _SLICE]))
        except TlsRefused as refused:
            self.fail(refused)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """As one write: one record where they are small."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """TLS 1.3 closes one direction at a time."""
        return True

    def write_eof(self) -> None:
        """Send close_notify: no more of ours; the peer's bytes still come."""
        if self._eof_sent or self._closing:
            return
        self._eof_sent = True
        if ciphertext := self._records.close_notify():
            self._outlet.push(ciphertext)

    def pause_reading(self) -> None:
        """Nothing more to the protocol until `resume_reading`; the socket fills and the peer waits."""
        if not self._paused and not self._closing:
            self._paused = True
            self._lower.pause_reading()

    def resume_reading(self) -> None:
        """The opposite of `pause_reading`."""
        if self._paused and not self._closing:
            self._paused = False
            self._lower.resume_reading()
            self._loop.call_soon(self.received, 0)

    def is_reading(self) -> bool:
        """Whether the protocol may be handed data."""
        return not self._paused and not self._closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """In ciphertext: about 0.2 % more than plaintext."""
        self._lower.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high)."""
        return self._lower.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """What waits for the socket, in ciphertext."""
        return self._lower.get_write_buffer_size()

    def shrink(self) -> None:
        """Give back the memory of a connection that was busy and is not."""
        if not self._closing:
            if ciphertext := self._records.outgoing():
                self._outlet.push(ciphertext)
            self._records.shrink()

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called, or the connection is gone."""
        return self._closing

    def close(self, patience: float = limits.CLOSE_DEADLINE) -> None:
        """Send what is owed and close_notify, then close; reset a peer that takes nothing of it for `patience`."""
        if self._closing:
            return
        self.write_eof()
        self._closing = True
        if (self._fin_received or self._records.ended) and not self._lower.get_write_buffer_size():
            self._lower.close()
        else:
            Farewell(self._loop, self._lower, self.lost, patience=patience)

    def abort(self) -> None:
        """Reset the connection now; nothing owed is sent."""
        self._closing = True
        reset(self._lower)

    # What the socket below tells us -----------------------------------------------------------------------------------

    def received(self, nbytes: int) -> None:
        """Open what `nbytes` of new ciphertext in the receive buffer complete, and hand it over."""
        if self._closing:
            return
        if self._paused:
            self._records.keep(nbytes)
            return
        if nbytes == _FULL:
            self._let_others()
        try:
            opened = self._records.open(nbytes)
        except TlsRefused as refused:
            self.fail(refused)
            return
        if opened:
            if self._view_received is not None:
                self._view_received(opened)
            else:
                _deliver(self._protocol, opened)
        if self._records.waiting:
            self._loop.call_soon(self.received, 0)
        elif self._records.ended and not (self._eof_received or self._paused or self._closing):
            self._eof_received = True
            if not self._protocol.eof_received():  # type: ignore[attr-defined]  # stream protocols have it
                self.close()

    def _let_others(self) -> None:
        self._full_reads += 1
        if self._full_reads % limits.TURN_READS == 0:
            self._lower.pause_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if not (self._paused or self._closing or self._lower.is_closing()):
            self._lower.resume_reading()

    def ciphertext_ended(self) -> None:
        """The peer's FIN: clean only after its close_notify."""
        while self._records.waiting and not (self._paused or self._closing):
            self.received(0)
        self._fin_received = True
        if not self._records.ended and not self._closing:
            self.fail(Truncated("the connection ended without the peer's close_notify"))

    def fail(self, error: Exception) -> None:
        """Give up: the protocol hears `error` in `connection_lost`."""
        self._error = self._error or error
        self.abort()

    def lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._closing = True
        if not self._gone:
            self._gone = True
            protocol = self._protocol
            self.set_protocol(
                _NOBODY
            )  # OpenSSL's memory goes with the connection, not with the next garbage collection
            protocol.connection_lost(self._error or exc)


def _deliver(protocol: asyncio.BaseProtocol, opened: memoryview) -> None:
    """Hand plaintext to a protocol that takes bytes, or brings its own buffer."""
    data = bytes(opened)
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)  # type: ignore[attr-defined]  # the one kind left
        return
    left = memoryview(data)
    while left:
        buffer = memoryview(protocol.get_buffer(len(left))).cast("B")
        taken = min(len(buffer), len(left))
        buffer[:taken] = left[:taken]
        protocol.buffer_updated(taken)
        left = left[taken:]


class _Ciphertext(asyncio.BufferedProtocol):
    """The socket's side of a `TlsTransport`."""

    def __init__(self, upper: TlsTransport) -> None:
        self._upper = upper
        # One call less for every read of every tunnel.
        self.buffer_updated = upper.received  # type: ignore[method-assign]

    def get_buffer(self, _sizehint: int) -> memoryview:
        return receive_buffer()

    def eof_received(self) -> bool:
        self._upper.ciphertext_ended()
        return True

    def pause_writing(self) -> None:
        self._upper.get_protocol().pause_writing()

    def resume_writing(self) -> None:
        self._upper.get_protocol().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._upper.lost(exc)
