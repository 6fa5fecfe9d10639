"""One HTTPS request on a connection of its own: knock, connect, TLS, `POST`, the answer, the end.

For requests that devices and gateways make alike. Laws:

1. The request is sent at most once; only the steps before it are tried again.
2. What is asked may depend on the connection (a proof bound to it), so it is made once the server is verified.
3. The answer is bounded in bytes and time.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import h11

from wire.errors import LocalError, RemoteError, TlsRefused
from wire.messages import Message
from wire.tls import ClientTls, TlsTransport, connect_tls

DEADLINE: Final = 15.0
"""Seconds for the exchange once connected: the controller writes to its database and signs one certificate."""
MAX_REPLY: Final = 65_536
ATTEMPTS: Final = 2
"""Connections tried: a door that shuts between the knock and the handshake resets the first (on-demand cloak)."""
_READ: Final = 16_384

Dial = Callable[[], Awaitable[socket.socket]]
"""Knocks and answers a connected, non-blocking socket."""


class NoAnswer(RemoteError):  # noqa: N818 - reads as what it is
    """The request was sent, and its answer did not come, or not whole; `reason` is a code."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


async def post(dial: Dial, tls: ClientTls, path: str, make: Callable[[TlsTransport], Message]) -> tuple[int, bytes]:
    """Status and body of the answer to what `make` makes. Raises what `dial` raises, TlsRefused, NoAnswer."""
    reader, writer, transport = await _connect(dial, tls)
    try:
        async with asyncio.timeout(DEADLINE):
            return await _ask(reader, writer, tls.expect.id, path, make(transport).model_dump_json().encode())
    except TimeoutError:
        raise NoAnswer("timeout", f"the controller did not answer within {DEADLINE:g} s") from None
    except (RemoteError, OSError, h11.RemoteProtocolError) as error:
        raise NoAnswer("broken", f"the controller's answer did not arrive whole ({error})") from error
    finally:
        transport.abort()


async def _connect(dial: Dial, tls: ClientTls) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, TlsTransport]:
    loop = asyncio.get_running_loop()
    for attempt in range(1, ATTEMPTS + 1):
        sock = await dial()
        reader = asyncio.StreamReader(MAX_REPLY)
        try:
            transport, protocol = await connect_tls(sock, tls, partial(asyncio.StreamReaderProtocol, reader))
        except TlsRefused as refused:
            if refused.reason == "closed" and attempt < ATTEMPTS:
                continue
            raise
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop), transport
    raise LocalError("the loop above always ends in an answer")  # pragma: no cover


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, body: bytes
) -> tuple[int, bytes]:
    connection = h11.Connection(h11.CLIENT)
    headers = [
        ("Host", host),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    for part in (h11.Request(method="POST", target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
        writer.write(connection.send(part) or b"")
    await writer.drain()
    status, received = 0, bytearray()
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            received += event.data
            if len(received) > MAX_REPLY:
                raise RemoteError(f"an answer longer than {MAX_REPLY} bytes")
        elif event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ))
        elif not isinstance(event, h11.InformationalResponse):
            raise RemoteError("the connection ended before the answer did")
    return status, bytes(received)
