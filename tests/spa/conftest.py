"""A door on loopback addresses of its own, keys that may knock there, and the reference implementation."""

import asyncio
import importlib.util
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvloop

from certs.names import Name, NameKind
from certs.secret import Secret
from spa.admission import Admission
from spa.cloak import CloakName
from spa.door import Door, wall_clock_us
from spa.packet import KnockKey, KnockKind, derive_key
from spa.sender import knock_and_connect
from spa.source import Source


def pytest_asyncio_loop_factories(config: object, item: object) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test that waits runs under both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


SERVER = Name("example.test", NameKind.GATEWAY, "edge")
_blocks = itertools.count()


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    path = Path(__file__).with_name("reference_knock.py")
    spec = importlib.util.spec_from_file_location("reference_knock", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def block() -> Callable[[int], str]:
    """`block(7)`: an address of a /24 of loopback addresses no other test uses, in this process or the next."""
    index = next(_blocks)
    prefix = f"127.{100 + os.getpid() % 100}.{(os.getpid() // 100 + index) % 250 + 1}"
    return lambda host: f"{prefix}.{host}"


class Visit:
    """A door with everything that came through it."""

    def __init__(self, door: Door, admission: Admission, key: KnockKey, host: Callable[[int], str]) -> None:
        self.door, self.admission, self.key, self.host = door, admission, key, host
        self.came: list[tuple[socket.socket, Source]] = []
        self.drops: list[Any] = []
        self.admits: list[Any] = []

    async def connect(self, source: str, **changes: Any) -> socket.socket:
        asked: dict[str, Any] = {
            "knock_to": self.door.bound_knock,
            "connect_to": self.door.bound_listen,
            "key": self.key,
            "kind": KnockKind.CONTROL,
            "clock": wall_clock_us,
            "local_addr": (source, 0),
        }
        return await knock_and_connect(**asked | changes)


@pytest.fixture
async def visit(block: Callable[[int], str]) -> AsyncIterator[Callable[..., Any]]:
    """`await visit(CloakName.…)` stands a door up; connections, sockets and the door are closed at the end."""
    async with AsyncExitStack() as stack:

        async def make(cloak: CloakName, listen: tuple[str, int] | None = None, **changes: Any) -> Visit:
            key = derive_key(Secret.fresh(), SERVER)
            kinds = frozenset({KnockKind.CONTROL})
            admission = Admission(
                started_us=wall_clock_us() - 1, kinds=kinds, ports=frozenset(), lease_live=lambda _key, _session: False
            )
            admission.put("device/1", key, kinds, wall_clock_us())
            visits: list[Visit] = []
            place = listen or (block(1), 0)
            door = Door(
                listen=place,
                knock=(place[0], 0),
                cloak=cloak,
                admission=admission,
                on_connection=lambda sock, source: visits[0].came.append((sock, source)),
                on_drop=lambda drop, source: visits[0].drops.append((drop, source)),
                on_admit=lambda admit, source: visits[0].admits.append((admit, source)),
                **changes,
            )
            visits.append(Visit(door, admission, key, block))
            stack.push_async_callback(door.close)
            await door.start()
            stack.callback(lambda: [sock.close() for sock, _ in visits[0].came])
            return visits[0]

        yield make
