"""A tunnel to the source, held by this process: the TLS and CONNECT of gloam's client, and the times of what comes."""

import asyncio
import time

from bench.stage import PORT, RESOURCE, Visitor
from wire.connect import Accepted, ClientHandshake, NeedMore
from wire.tls import ClientTls, connect_tls


class Tunnel(asyncio.Protocol):
    """Asks for the source, gives it `command`, and notes when its first and last bytes come and when it all ends."""

    transport: asyncio.Transport

    def __init__(self, command: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._command = command
        self._handshake: ClientHandshake | None = ClientHandshake(RESOURCE, PORT)
        self.first_byte: asyncio.Future[float] = loop.create_future()
        self.ended: asyncio.Future[float] = loop.create_future()
        self.bytes = 0

    @classmethod
    async def open(cls, visitor: Visitor, tls: ClientTls, command: bytes, source: str | None = None) -> "Tunnel":
        """Knock, connect, TLS; CONNECT is under way when this returns."""
        _, tunnel = await connect_tls(await visitor.dial(source), tls, lambda: cls(command))
        return tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The gateway is who it should be."""
        self.transport = transport  # type: ignore[assignment]  # connect_tls makes no other
        if self._handshake is not None:
            self.transport.write(self._handshake.request())

    def data_received(self, data: bytes) -> None:
        """The answer to CONNECT, then the source's bytes."""
        if self._handshake is not None:
            answer = self._handshake.receive(data)
            if isinstance(answer, NeedMore):
                return
            if not isinstance(answer, Accepted):
                self.first_byte.set_exception(RuntimeError(f"the gateway refused: {answer}"))
                return
            self._handshake = None
            self.transport.write(self._command)
            data = answer.rest
        self.bytes += len(data)
        if data and not self.first_byte.done():
            self.first_byte.set_result(time.monotonic())

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, one way or the other."""
        self.ended.set_result(time.monotonic())
        if not self.first_byte.done():
            self.first_byte.set_exception(exc or ConnectionError("the tunnel ended before its first byte"))

    async def close(self) -> None:
        """End it from this side."""
        self.transport.abort()
        await self.ended
