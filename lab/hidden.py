"""The resources behind the gateways: `python -m lab.hidden KIND HOST:PORT…` says `ready` and serves until stopped.

| kind        | what it does with a connection |
| ----------- | ------------------------------ |
| `http`      | answers every GET with one page |
| `echo`      | sends back what it gets, half-close included |
| `name`      | says which HOST:PORT it was reached at, and closes |
| `source`    | reads a number and a line feed, sends that many bytes and its end, then reads to the visitor's end |
| `sink`      | reads to the visitor's end, then answers with what it got and closes |
| `resetting` | resets as soon as it has read something |

Each says on standard output how a connection ended: `received BYTES SHA256`, or `broken after BYTES`.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import struct
import sys

from console.address import HostPort

PAGE = b"<h1>The wiki nobody can see</h1>\n"
BLOCK = random.Random(7).randbytes(1 << 20)  # noqa: S311 - over and over, so that both ends know what is sent
READ = 262_144
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Visit:
    """One connection: what came, and what is said of it at the end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._hash = hashlib.sha256()
        self._bytes = 0

    def __str__(self) -> str:
        return f"{self._bytes} {self._hash.hexdigest()}"

    async def read(self) -> bytes:
        """What has come; nothing at the visitor's end."""
        return self._took(await self._reader.read(READ))

    async def read_past(self, separator: bytes) -> bytes:
        """What has come up to and with `separator`."""
        return self._took(await self._reader.readuntil(separator))

    async def read_to_the_end(self) -> None:
        """Everything that comes."""
        while await self.read():
            pass

    async def send(self, data: bytes) -> None:
        """Send, and wait until the kernel has most of it."""
        self.writer.write(data)
        await self.writer.drain()

    def _took(self, data: bytes) -> bytes:
        self._hash.update(data)
        self._bytes += len(data)
        return data

    def tell(self, how: str) -> None:
        """Say how it ended."""
        print(f"received {self}" if how == "received" else f"{how} {self._bytes}", flush=True)  # noqa: T201 - the report


async def _http(visit: _Visit) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):  # the visitor left
        while await visit.read_past(b"\r\n\r\n"):
            await visit.send(answer)


async def _echo(visit: _Visit) -> None:
    while data := await visit.read():
        await visit.send(data)
    visit.writer.write_eof()


async def _name(visit: _Visit) -> None:
    host, port = visit.writer.get_extra_info("sockname")[:2]
    await visit.send(f"{HostPort(host, port)}\n".encode())


async def _source(visit: _Visit) -> None:
    left = int(await visit.read_past(b"\n"))
    while left > 0:
        await visit.send(BLOCK[:left])
        left -= len(BLOCK)
    visit.writer.write_eof()
    await visit.read_to_the_end()


async def _sink(visit: _Visit) -> None:
    await visit.read_to_the_end()
    await visit.send(f"{visit}\n".encode())


async def _resetting(visit: _Visit) -> None:
    await visit.read()
    visit.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    visit.writer.transport.abort()


_KINDS = {"http": _http, "echo": _echo, "name": _name, "source": _source, "sink": _sink, "resetting": _resetting}


async def _serve(kind: str, *targets: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = _Visit(reader, writer)
        try:
            await _KINDS[kind](visit)
            visit.tell("received")
        except ConnectionError:
            visit.tell("broken after")
        finally:
            writer.close()

    async with contextlib.AsyncExitStack() as servers:
        for target in targets:
            at = HostPort.parse(target)
            await servers.enter_async_context(await asyncio.start_server(serve, at.host, at.port, backlog=1024))
        print("ready", flush=True)  # noqa: T201 - what lab.processes waits for
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
