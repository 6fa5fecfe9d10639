"""One connection through a relay whose TLS is done in memory: what it sends is sealed here, what it gets is counted.

With TLS apart from the socket, a load can let the kernel drop what comes (MSG_TRUNC, tcp(7)) without opening it, and
costs next to nothing beside the relay that sealed it. Nothing is lost by that: `load.Load` opens every byte elsewhere.
"""

import contextlib
import socket
from collections.abc import Callable

from OpenSSL import SSL

from wire.connect import Accepted, ClientHandshake, NeedMore

_READ = 65_536
RECEIVE_BUFFER = 1 << 20  # fixed: a hundred paused streams shall not fill the machine's memory


class Stream:
    """Made from a connected socket; `name` and `port` ask a gateway for a resource. Blocking, until `unblock`."""

    def __init__(self, sock: socket.socket, context: SSL.Context, asks: tuple[str, int] | None, seconds: float) -> None:
        sock.settimeout(seconds)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self._tls = SSL.Connection(context, None)
        self._tls.set_connect_state()
        self._until_done(self._tls.do_handshake)
        if asks is not None:
            self._ask(*asks)

    def _until_done(self, step: Callable[[], object]) -> object:
        while True:
            try:
                done = step()
            except SSL.WantReadError:
                self._flush()
                self._tls.bio_write(self.socket.recv(_READ))
            else:
                self._flush()
                return done

    def _ask(self, name: str, port: int) -> None:
        handshake = ClientHandshake(name, port)
        self.say(handshake.request())
        while isinstance(answer := handshake.receive(self._hear()), NeedMore):
            pass
        if not isinstance(answer, Accepted):
            raise RuntimeError(f"the gateway refused: {answer}")  # noqa: TRY004 - not a matter of types

    def _hear(self) -> bytes:
        heard = self._until_done(lambda: self._tls.recv(_READ))
        return heard if isinstance(heard, bytes) else b""

    def say(self, data: bytes) -> None:
        """Send `data` to the other end."""
        self.socket.sendall(self.seal(data))

    def seal(self, data: bytes) -> bytes:
        """The records that carry `data`, to be sent next."""
        sent = 0
        while sent < len(data):  # pyOpenSSL takes a record at a time
            sent += self._tls.send(data[sent : sent + 16_384])
        return self._out()

    def _flush(self) -> None:
        self.socket.sendall(self._out())

    def _out(self) -> bytes:
        parts = []
        with contextlib.suppress(SSL.WantReadError):  # there is nothing more
            while part := self._tls.bio_read(1 << 20):
                parts.append(part)
        return b"".join(parts)

    def close(self) -> None:
        """Give it up. What is on its way is lost, and need not be waited for."""
        self.socket.close()
