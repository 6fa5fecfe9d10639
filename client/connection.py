"""A verified connection to a gateway, asked for one tunnel: at once, or when somebody needs one.

1. It is asked once, and read up to its answer; what follows is for whoever carries the tunnel.
2. A gateway says nothing before it is asked. One that does, or that ends, makes the connection useless (`alive`).
"""

import asyncio
from collections.abc import Callable

from wire.connect import Accepted, ClientHandshake, NeedMore, Refused, UdpHandshake, Upgraded
from wire.errors import RemoteError
from wire.tls import TlsTransport

Handshake = ClientHandshake | UdpHandshake
Answer = Accepted | Upgraded | Refused


def _nobody(_connection: "Connection") -> None:
    """Nobody waits for its end."""


class Connection(asyncio.Protocol):
    """The client's side of a request; `on_end` hears if it ends before it is asked."""

    transport: TlsTransport

    def __init__(self, handshake: Handshake | None = None) -> None:
        self._handshake = handshake
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.alive = True
        self.on_end: Callable[[Connection], None] = _nobody

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at once, if there is something to ask."""
        self.transport = transport  # type: ignore[assignment]  # wire.tls makes no other
        if self._handshake is not None:
            self.transport.write(self._handshake.request())

    async def ask(self, handshake: Handshake) -> Answer:
        """The answer to this request. Raises RemoteError if the connection ended before it."""
        self._handshake, self.on_end = handshake, _nobody
        self.transport.write(handshake.request())
        return await self._answer

    async def answer(self) -> Answer:
        """The answer to the request it was made with. Raises RemoteError if the connection ended before it."""
        return await self._answer

    def data_received(self, data: bytes) -> None:
        """The answer, and perhaps the tunnel's first bytes behind it; then nothing more until the relay resumes."""
        if self._answer.done():
            return
        if self._handshake is None:
            self.transport.abort()
            self._end("the gateway spoke before it was asked")
            return
        answer = self._handshake.receive(data)
        if not isinstance(answer, NeedMore):
            if not isinstance(answer, Refused):
                self.transport.pause_reading()
            self._answer.set_result(answer)

    def eof_received(self) -> bool:
        """An end before the answer; behind it, the relay hears of it."""
        self._end("the gateway ended the connection before it answered")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The same, ruder."""
        self._end(f"the connection to the gateway was lost before it answered{f': {exc}' if exc else ''}")

    def _end(self, sentence: str) -> None:
        was, self.alive = self.alive, False
        if was and self._handshake is None:
            self.on_end(self)
        elif self._handshake is not None and not self._answer.done():
            self._answer.set_exception(RemoteError(sentence))
