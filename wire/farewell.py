"""Closing a socket so that what was sent last still arrives.

A kernel that is asked to close a socket with unread data answers with a reset, and a reset throws away what the peer
had not read yet: the refusal, the alert, the last bytes of a file. So we send our end, read and drop what the peer had
already sent, and close when it ends too, or after `limits.LINGER`. A peer that takes nothing is reset after
`limits.CLOSE_DEADLINE`, or what patience the last bytes deserve.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Final

from wire import limits
from wire.records import receive_buffer

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


_under_way: set["Farewell"] = set()


class Farewell(asyncio.BufferedProtocol):
    """The last protocol of a socket transport; `on_lost(error)` is called when the socket is gone.

    `drop`: how many bytes of a peer that goes on talking are read before the connection is reset. `patience`: seconds
    for a peer that takes nothing of what it is owed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        on_lost: Callable[[Exception | None], None],
        drop: int = limits.LINGER_BYTES,
        patience: float = limits.CLOSE_DEADLINE,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._on_lost = on_lost
        self._drop = drop
        self._patience = patience
        self._owed = transport.get_write_buffer_size()
        self._stuck_since = loop.time()
        self._timer = loop.call_later(limits.LINGER, self._look)
        self.over: asyncio.Future[None] = loop.create_future()
        _under_way.add(self)
        transport.set_protocol(self)
        with contextlib.suppress(
            OSError, RuntimeError
        ):  # the connection may be breaking right now: connection_lost follows
            transport.write_eof()
        transport.resume_reading()

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Somewhere to drop bytes into."""
        return receive_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Dropped, up to a point."""
        self._drop -= nbytes
        if self._drop < 0:
            reset(self._transport)

    def eof_received(self) -> None:
        """The peer ended too: the transport closes itself."""

    def pause_writing(self) -> None:
        """Nobody writes any more."""

    def resume_writing(self) -> None:
        """Nobody writes any more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        self._timer.cancel()
        _under_way.discard(self)
        if not self.over.done():
            self.over.set_result(None)
        self._on_lost(exc)

    def _look(self) -> None:
        owed = self._transport.get_write_buffer_size()
        if not owed and not self._owed:
            self._transport.close()
            return
        if owed != self._owed:
            self._stuck_since = self._loop.time()
        elif self._loop.time() - self._stuck_since >= self._patience:
            reset(self._transport)
            return
        self._owed = owed
        self._timer = self._loop.call_later(limits.LINGER, self._look)


async def farewells_said() -> None:
    """Wait until every socket this event loop is closing is gone: call it before the loop itself ends."""
    loop = asyncio.get_running_loop()
    while waiting := [farewell.over for farewell in _under_way if farewell.over.get_loop() is loop]:
        await asyncio.wait(waiting)


def reset_socket(sock: socket.socket) -> None:
    """`reset` for a socket that no transport has."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()


def reset(transport: asyncio.Transport) -> None:
    """Close now with RST: neither our buffers nor the kernel's reach the peer any more."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError, ValueError):  # ValueError: uvloop's, of a socket that is closed
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
