"""A perimeter for measuring: controller, one gateway, one resource, and people who are logged in.

Everything runs as it would anywhere (`lab`). A `Visitor` then does in this process what `gloam forward` does in its
own: gloam's sender, TLS and CONNECT, with the keys in that person's state directory.
"""

import contextlib
import socket
import sys
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


class Visitor:
    """A logged-in person's machine, for this process to act as. What it needs is read before anything is timed."""

    def __init__(self, user: str, state: ClientState, way: RouteAnswer) -> None:
        self.user = user
        self.trust = state.trust()
        self._state = state
        self._session = UUID(way.session)
        self._gateway = way.gateways[0]
        self._server = Name(state.profile().domain, NameKind.GATEWAY, self._gateway.name)
        self._key = derive_key(state.knock_secret(), self._server)
        self._clock = state.clock()

    def identity(self) -> Identity:
        """The session's key and its certificate of the moment."""
        identity = self._state.session()
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
            session=self._session,
            clock=self._clock.us,
            local_addr=None if source is None else (source, 0),
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """What stands. `target` is the resource's own HOST:PORT, for peers to dial as the gateway does."""

    perimeter: Perimeter
    gateway_pid: int
    target: str
    visitors: tuple[Visitor, ...]
    cloak: str


@contextlib.asynccontextmanager
async def standing(people: int, *, cloak: str) -> AsyncIterator[Stage]:
    """A stage with `people` logged in, each on a machine of their own."""
    async with Perimeter(cloak=cloak) as perimeter, contextlib.AsyncExitStack() as stack:
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
        await perimeter.add_resource(RESOURCE, gateways=[GATEWAY], target=target, port=PORT)
        await perimeter.admin_json("group", "add", GROUP)
        await perimeter.admin_json("grant", "add", "--group", GROUP, "--resource", RESOURCE)
        visitors = [await _visitor(perimeter, f"visitor-{number}") for number in range(people)]
        status = await perimeter.gateway_status(GATEWAY)
        yield Stage(perimeter, gateway.pid, target, tuple(visitors), str(status["cloak"]["name"]))


async def _visitor(perimeter: Perimeter, user: str) -> Visitor:
    await perimeter.add_user(user, groups=[GROUP])
    client = await perimeter.add_client(user)
    await client.login(user)
    state = ClientState(client.state)
    return Visitor(user, state, await find_way(state, Target(RESOURCE)))
