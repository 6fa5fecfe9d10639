"""What a person's browser would do: fetch a page through a forwarded port, or hold a connection until it is cut."""

import asyncio
import time
from dataclasses import dataclass

PAUSE_SECONDS = 0.02


async def fetch(host: str, port: int) -> tuple[int, bytes]:
    """The status and body of `GET /`."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: resource\r\nConnection: keep-alive\r\n\r\n")
        return await _response(reader)
    finally:
        writer.close()


async def _response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    lengths = [int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length:")]
    return int(lines[0].split()[1]), await reader.readexactly(lengths[0] if lengths else 0)


@dataclass(frozen=True, slots=True)
class Cut:
    """When a held connection ended (monotonic seconds), and how many bytes had come through it."""

    at: float
    bytes: int


async def hold_open(host: str, port: int, began: asyncio.Event) -> Cut:
    """Ask for the page over and over on one connection, until the connection ends."""
    reader, writer = await asyncio.open_connection(host, port)
    total = 0
    try:
        while True:
            writer.write(b"GET / HTTP/1.1\r\nHost: resource\r\n\r\n")
            _, body = await _response(reader)
            total += len(body)
            began.set()
            await asyncio.sleep(PAUSE_SECONDS)
    except (asyncio.IncompleteReadError, ConnectionError):
        return Cut(time.monotonic(), total)
    finally:
        writer.close()
