"""Somebody with a stolen knock key and patience: `python -m lab.squatter STATE RESOURCE COUNT ADDRESS…` until stopped.

Knocks at the resource's gateway from every ADDRESS with the keys of the client in STATE, and begins COUNT TLS
handshakes that it never goes on with: every other one says nothing at all, the rest the first five bytes of a record.
What the gateway throws out comes again after a second. One thread and bare sockets: an attack that took much of the
machine it shares with its victim would only show that the machine is busy.
"""

import asyncio
import contextlib
import itertools
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from certs.names import Name, NameKind
from client.agent.messages import RouteAnswer
from client.reach import find_way
from client.session import Target
from client.state import ClientState
from spa.packet import KnockKind, derive_key
from spa.sender import Knocker

KNOCK_SECONDS: Final = 3.0  # well within a window
PAUSE: Final = 1.0
TICK: Final = 0.01
BEGUN: Final = b"\x16\x03\x01\x02\x00"  # the header of a record that never comes


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a connection comes from, and what it says."""

    address: str
    word: bytes


class Squatter:
    """All of it, in one thread."""

    def __init__(self, state: ClientState, way: RouteAnswer) -> None:
        gateway = way.gateways[0]
        self._door = (gateway.tls.host, gateway.tls.port)
        self._knock_to = (gateway.knock.host, gateway.knock.port)
        self._knocker = Knocker(
            key=derive_key(state.knock_secret(), Name(state.profile().domain, NameKind.GATEWAY, gateway.name)),
            kind=KnockKind.TUNNEL,
            session=UUID(way.session),
            port=gateway.tls.port,
            clock=state.clock().us,
        )
        self._family = socket.AF_INET6 if ":" in gateway.tls.host else socket.AF_INET
        self._waiting: deque[tuple[float, _Place]] = deque()  # to be opened then; the earliest first
        self._open = selectors.DefaultSelector()

    def run(self, count: int, addresses: Sequence[str]) -> None:
        """Squats until the process is ended."""
        now = time.monotonic()
        places = zip(range(count), itertools.cycle(addresses), strict=False)
        for number, address in places:  # within a second, not at once: the gateway's backlog has 1,024 places
            self._waiting.append((now + PAUSE + number / count, _Place(address, BEGUN if number % 2 else b"")))
        next_knock, all_begun, told = now, now + 2 * PAUSE, False
        while True:
            now = time.monotonic()
            if now >= next_knock:
                next_knock = now + KNOCK_SECONDS
                for address in addresses:
                    self._knock(address)
            while self._waiting and self._waiting[0][0] <= now:
                self._begin(self._waiting.popleft()[1])
            if not told and now >= all_begun:
                told = True
                print("ready", flush=True)  # noqa: T201 - what lab.processes waits for
            for key, events in self._open.select(TICK):
                self._go_on(key, events)

    def _knock(self, address: str) -> None:
        with socket.socket(self._family, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
            sock.bind((address, 0))
            sock.sendto(self._knocker.datagram(), self._knock_to)

    def _begin(self, place: _Place) -> None:
        sock = socket.socket(self._family, socket.SOCK_STREAM)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        try:
            sock.bind((place.address, 0))
            sock.connect_ex(self._door)
        except OSError:
            sock.close()
            self._again(place)
            return
        self._open.register(sock, selectors.EVENT_WRITE if place.word else selectors.EVENT_READ, place)

    def _go_on(self, key: selectors.SelectorKey, events: int) -> None:
        sock, place = key.fileobj, key.data
        assert isinstance(sock, socket.socket)  # noqa: S101 - what `_begin` registered
        try:
            if events & selectors.EVENT_WRITE:
                sock.send(place.word)
                self._open.modify(sock, selectors.EVENT_READ, place)
                return
            if sock.recv(1):
                return
        except OSError:
            pass
        self._open.unregister(sock)
        sock.close()
        self._again(place)

    def _again(self, place: _Place) -> None:
        self._waiting.append((time.monotonic() + PAUSE, place))


def main() -> None:
    """The command."""
    directory, resource, count, *addresses = sys.argv[1:]
    state = ClientState(Path(directory))
    Squatter(state, asyncio.run(find_way(state, Target(resource)))).run(int(count), addresses)


if __name__ == "__main__":
    main()
