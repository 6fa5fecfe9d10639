"""Writing to a socket straight from a buffer that will be used again.

An event loop's `transport.write` has to keep or copy what it is given; most of the time the kernel would have taken it
at once. `Outlet.push` asks the kernel first and leaves only the rest, copied, to the transport, which keeps the order.
"""

import asyncio
import os


class Outlet:
    """The writing side of one socket transport."""

    __slots__ = ("_socket", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        # The loop's own socket object: its fileno() is -1 from the moment the transport closes the descriptor, so a
        # descriptor that was given to somebody else is never written to.
        self._socket = transport.get_extra_info("socket")

    def push(self, view: memoryview) -> None:
        """Send `view`, or what the kernel does not take of it once it can; `view` may be overwritten afterwards."""
        transport = self.transport
        if not transport.get_write_buffer_size():
            try:
                sent = os.write(self._socket.fileno(), view)
            except OSError:  # full (EAGAIN), or broken, which the transport will find out and report
                sent = 0
            if sent == len(view):
                return
            view = view[sent:]
        if not transport.is_closing():
            transport.write(bytes(view))
