"""A perimeter for measuring: controller, one gateway, one resource, and people who are logged in.

Everything runs as it would anywhere (`lab`), with one setting changed: a session may have thousands of tunnels. A
`Visitor` then does in this process what `gloam forward` does in its own: gloam's sender, TLS and CONNECT, with the keys
in that person's state directory.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from certs.identity import Identity
from certs.names import Name, NameKind
from client.agent.messages import RouteAnswer
from client.reach import find_way
from client.session import Target
from client.state import ClientState
from lab.addresses import place
from lab.perimeter import Perimeter
from lab.processes import LabError, Process
from spa.packet import KnockKind, derive_key
from spa.sender import knock_and_connect
from wire.tls import ClientTls

RESOURCE = "source"
PORT = 7000
GATEWAY = "edge"
GROUP = "bench"
SOURCE_PLACE = 200  # of the resource in the perimeter's block of addresses
TUNNELS_PER_SESSION = 4_096
WINDOW_SECONDS = 5.0  # half of what a knock gives: a connection within it surely needs no other
CONNECT_SECONDS = 5.0


class Visitor:
    """A logged-in person's machine, for this process to act as. What it needs is read before anything is timed."""

    def __init__(self, user: str, state: ClientState, way: RouteAnswer, *, each_knocks: bool) -> None:
        self.user = user
        self.resource = way.resource.name
        self.state = state
        self.trust = state.trust()
        self._each_knocks = each_knocks
        self.session = UUID(way.session)
        self._gateway = way.gateways[0]
        self._server = Name(state.profile().domain, NameKind.GATEWAY, self._gateway.name)
        self._key = derive_key(state.knock_secret(), self._server)
        self._clock = state.clock()
        self._knocked = float("-inf")

    def identity(self) -> Identity:
        """The session's key and its certificate of the moment."""
        identity = self.state.session()
        if identity is None:
            raise LabError(f"{self.user} is not logged in any more")
        return identity

    def tls(self) -> ClientTls:
        """How this person speaks to the gateway."""
        return ClientTls(self.identity(), self.trust, self._server)

    async def dial(self, source: str | None = None) -> socket.socket:
        """Knock and connect, from the address `source` if one is named."""
        return await knock_and_connect(
            knock_to=(self._gateway.knock.host, self._gateway.knock.port),
            connect_to=(self._gateway.tls.host, self._gateway.tls.port),
            key=self._key,
            kind=KnockKind.TUNNEL,
            session=self.session,
            clock=self._clock.us,
            local_addr=None if source is None else (source, 0),
        )

    async def enter(self) -> socket.socket:
        """Connect, and knock only where no window is known to be open."""
        if self._each_knocks or time.monotonic() > self._knocked + WINDOW_SECONDS:
            knocked = time.monotonic()
            entered = await self.dial()
            self._knocked = knocked
            return entered
        tls = self._gateway.tls
        return await asyncio.to_thread(socket.create_connection, (tls.host, tls.port), CONNECT_SECONDS)


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands. `target` is the resource's own HOST:PORT, for peers to dial as the gateway does."""

    perimeter: Perimeter
    gateway_pid: int
    source_pid: int
    target: str
    visitors: tuple[Visitor, ...]
    cloak: str

    async def another_gateway(self, name: str, **settings: str) -> tuple[int, Visitor]:
        """A second way to the same source: the new gateway's process id, and the first visitor on this way."""
        await self.perimeter.add_gateway(name, start=False)
        gateway = await self.perimeter.start_gateway(name, **settings)
        await _publish(self.perimeter, f"{RESOURCE}-{name}", name, self.target)
        first = self.visitors[0]
        return gateway.pid, await _visitor(first.user, first.state, f"{RESOURCE}-{name}", self.cloak)


@contextlib.asynccontextmanager
async def standing(people: int, *, cloak: str) -> AsyncIterator[Stage]:
    """A stage with `people` logged in, each on a machine of their own."""
    limits = {"GLOAM_MAX_TUNNELS_PER_SESSION": str(TUNNELS_PER_SESSION)}
    async with (
        Perimeter(cloak=cloak, gateway_settings=limits, admin_here=True) as perimeter,
        contextlib.AsyncExitStack() as stack,
    ):
        target = place(perimeter.block.address(SOURCE_PLACE), PORT)
        source = await Process.start(
            "source", [sys.executable, "-m", "bench.source", target], log=perimeter.directory / "source.log"
        )
        stack.push_async_callback(source.stop)
        await source.ready()
        await perimeter.start_controller()
        gateway = await perimeter.add_gateway(GATEWAY)
        if gateway is None:
            raise LabError("the gateway was not started")
        await perimeter.admin_json("group", "add", GROUP)
        await _publish(perimeter, RESOURCE, GATEWAY, target)
        status = await perimeter.gateway_status(GATEWAY)
        found = str(status["cloak"]["name"])
        visitors = [await _newcomer(perimeter, f"visitor-{number}", found) for number in range(people)]
        yield Stage(perimeter, gateway.pid, source.pid, target, tuple(visitors), found)


async def _publish(perimeter: Perimeter, resource: str, gateway: str, target: str) -> None:
    await perimeter.add_resource(resource, gateways=[gateway], target=target, port=PORT)
    await perimeter.admin_json("grant", "add", "--group", GROUP, "--resource", resource)


async def _newcomer(perimeter: Perimeter, user: str, cloak: str) -> Visitor:
    await perimeter.add_user(user, groups=[GROUP])
    client = await perimeter.add_client(user)
    await client.login(user)
    return await _visitor(user, ClientState(client.state), RESOURCE, cloak)


async def _visitor(user: str, state: ClientState, resource: str, cloak: str) -> Visitor:
    # On demand, a port that took the connection it was opened for closes again: every connection needs its knock.
    way = await find_way(state, Target(resource), fresh=True)
    return Visitor(user, state, way, each_knocks=cloak == "on-demand")
