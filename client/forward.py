"""`gloam forward`: a local port whose connections each get a tunnel of their own.

Laws:

1. The way is checked before the port is announced: a denial is an exit code, not a port that answers nobody.
2. Nothing is read from a local connection before its tunnel stands; what it sent waits in the kernel.
3. Some connections to the gateway are kept warm, so that a local connection waits for one round trip only.
4. A connection whose tunnel cannot be opened is reset, never closed as if it had ended well, and stderr says why.
"""

import asyncio
import contextlib
import socket
from typing import Final

from client.listen import Announce, Listening, Told, bind
from client.reach import find_way, open_tunnel
from client.session import Target
from client.state import ClientState
from client.tunnel import Tunnels
from console.address import HostPort
from console.errors import CommandError
from console.text import joined
from wire.errors import WireError
from wire.farewell import reset
from wire.relay import Held

MAX_CONNECTIONS: Final = 4096
"""At a time: each holds two descriptors, and the usual limit of a process is higher only for services."""


class Forward:
    """One local port for one resource."""

    def __init__(self, state: ClientState, target: Target, tell: Told, *, warm: int = 0) -> None:
        self._state = state
        self._target = target
        self._tell = tell
        self._tunnels = Tunnels(state, state.profile(), warm=warm)

    async def run(self, listen: HostPort, announce: Announce) -> None:
        """Serves until cancelled; then every connection is cut. Raises CommandError if it cannot begin."""
        way = await find_way(self._state, self._target)
        listener = await bind(listen, socket.SOCK_STREAM)
        host, port = listener.getsockname()[:2]
        announce(Listening(HostPort(host, port), way.resource.name, way.resource.port, "tcp"))
        loop = asyncio.get_running_loop()
        slots = asyncio.Semaphore(MAX_CONNECTIONS)
        try:
            async with asyncio.TaskGroup() as connections:
                connections.create_task(self._tunnels.warm.keep())
                self._tunnels.be_warm(way)
                while True:
                    await slots.acquire()
                    local = await _accepted(loop, listener)
                    connections.create_task(self._serve(local, slots))
        finally:
            listener.close()

    async def _serve(self, local: socket.socket, slots: asyncio.Semaphore) -> None:
        plain: asyncio.Transport | None = None
        try:
            plain, _held = await asyncio.get_running_loop().connect_accepted_socket(Held, local)
            tunnel = await open_tunnel(self._state, self._tunnels, self._target)
            relay = tunnel.relay(plain)
            try:
                await relay.closed
            except asyncio.CancelledError:
                relay.cut("closing")
                raise
        except CommandError as error:
            self._tell(joined(error.what, error.fix))
        except (WireError, OSError) as error:
            self._tell(f"the tunnel to {self._target} broke: {error}")
        finally:
            slots.release()
            if plain is not None and not plain.is_closing():
                reset(plain)
            elif plain is None:
                local.close()


async def _accepted(loop: asyncio.AbstractEventLoop, listener: socket.socket) -> socket.socket:
    """The next local connection; running out of descriptors is waited out."""
    while True:
        try:
            local, _peer = await loop.sock_accept(listener)
        except ConnectionError:
            continue
        except OSError:
            await asyncio.sleep(0.1)  # no descriptor to be had: until some connection ends, there is nothing to do
            continue
        local.setblocking(False)  # noqa: FBT003 - the one argument it has
        with contextlib.suppress(OSError):
            local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return local
