"""The stranger: what a scan from an address that never knocked sees.

A TCP port is `open` (it answered), `closed` (reset) or `filtered` (silence); a UDP port either answers or does not.
The scan is a full connection attempt bound to the stranger's address, so it needs no privileges; the tests use nmap.
"""

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Iterable
from enum import StrEnum

SILENCE_SECONDS = 0.5
AT_ONCE = 256


class PortState(StrEnum):
    """nmap's words."""

    OPEN = "open"
    CLOSED = "closed"
    FILTERED = "filtered"


async def scan_tcp(host: str, ports: Iterable[int], *, source: str) -> dict[int, PortState]:
    """The state of each port of `host`, seen from `source`."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def probe(port: int) -> tuple[int, PortState]:
        async with gate:
            return port, await _connect(host, port, source)

    return dict(await asyncio.gather(*(probe(port) for port in ports)))


async def _connect(host: str, port: int, source: str) -> PortState:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - the standard library's signature
        probe.bind((source, 0))
        try:
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(probe, (host, port)), SILENCE_SECONDS)
        except ConnectionRefusedError:
            return PortState.CLOSED
        except TimeoutError:
            return PortState.FILTERED
        return PortState.OPEN


async def probe_udp(host: str, port: int, *, source: str, count: int = 50) -> int:
    """How many answers (datagrams or ICMP errors) `count` random datagrams got."""
    answers = 0
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)  # noqa: FBT003 - the standard library's signature
        probe.bind((source, 0))
        probe.connect((host, port))
        loop = asyncio.get_running_loop()
        for _ in range(count):
            try:
                probe.send(secrets.token_bytes(1 + secrets.randbelow(200)))
            except ConnectionRefusedError:
                answers += 1  # an ICMP error for an earlier datagram
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                while True:
                    with contextlib.suppress(ConnectionRefusedError):
                        await loop.sock_recv(probe, 2048)
                    answers += 1
        except TimeoutError:
            return answers
