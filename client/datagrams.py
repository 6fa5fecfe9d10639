"""`gloam forward NAME/udp`: a local UDP port; each local address that sends to it gets a tunnel of its own.

Laws:

1. The way is checked before the port is announced: a denial is an exit code, not a port that answers nobody.
2. An answer goes to the local address whose tunnel brought it, and to no other.
3. Local addresses are bounded: where there are too many, the one that has been silent longest makes way. Each is
   forgotten after `IDLE` of silence.
4. While a tunnel is being opened its first datagrams wait, within `WAITING`; everything that does not fit is dropped,
   as networks do. Connections are kept warm, so that they wait for one round trip only.
5. A tunnel that cannot be opened is not tried again for `RETRY`, and stderr says why.
"""

import asyncio
import contextlib
import socket
from collections import OrderedDict
from typing import Any, Final

from client.listen import Announce, Listening, Told, bind
from client.reach import find_way, open_tunnel
from client.session import Target
from client.state import ClientState
from client.tunnel import Tunnels
from console.address import HostPort
from console.errors import CommandError
from console.text import joined
from wire.datagrams import Datagrams
from wire.errors import WireError
from wire.limits import DATAGRAM_BURST, UDP_IDLE
from wire.records import receive_buffer

MAX_FLOWS: Final = 128
"""Local addresses at a time: half of the tunnels a gateway gives a session. dig has a new one for every question."""
MAX_OPENING: Final = 8
"""Tunnels being opened at a time: each costs a knock and a handshake."""
IDLE: Final = UDP_IDLE
"""Seconds of silence: as long as the gateway's, and what RFC 4787 §4.3 asks of those who map UDP."""
SETTLED: Final = 1.0
"""Seconds of silence before an address makes way for another: less would drop questions that are being answered."""
WAITING: Final = 32
"""Datagrams of one address that wait for its tunnel: the start of any conversation; they are sent in one go."""
RETRY: Final = 1.0
"""Seconds before another attempt: senders of datagrams repeat themselves, and each attempt is a knock."""
QUIET: Final = 10.0
"""Seconds before the same complaint is made again."""


class _Flow:
    """One local address and its tunnel."""

    def __init__(self, address: Any, now: float) -> None:
        self.address = address
        self.used = now
        self.stream: Datagrams | None = None
        self.failed = False
        self._waiting: list[bytes] = []

    def send(self, payload: bytes) -> bool:
        """Into the tunnel, or to wait for it; false if it was dropped."""
        if self.stream is not None:
            self.stream.send((payload,))
            return True
        if self.failed or len(self._waiting) >= WAITING:
            return False
        self._waiting.append(payload)
        return True

    def begin(self, stream: Datagrams) -> None:
        """The tunnel stands."""
        self.stream = stream
        stream.send(self._waiting)
        self._waiting = []


class UdpForward:
    """One local UDP port for one resource."""

    def __init__(self, state: ClientState, target: Target, tell: Told, *, warm: int = 0) -> None:
        self._state = state
        self._target = target
        self._tell = tell
        self._told: dict[str, float] = {}
        self._tunnels = Tunnels(state, state.profile(), warm=warm)
        self._flows: OrderedDict[Any, _Flow] = OrderedDict()  # the one that has been silent longest first
        self._opening = asyncio.Semaphore(MAX_OPENING)
        self.dropped = 0

    async def run(self, listen: HostPort, announce: Announce) -> None:
        """Serves until cancelled; then every tunnel is cut. Raises CommandError if it cannot begin."""
        way = await find_way(self._state, self._target)
        local = await bind(listen, socket.SOCK_DGRAM)
        loop = asyncio.get_running_loop()
        try:
            host, port = local.getsockname()[:2]
            announce(Listening(HostPort(host, port), way.resource.name, way.resource.port, "udp"))
            async with asyncio.TaskGroup() as tasks:
                loop.add_reader(local, self._arrived, local, tasks)
                self._tunnels.be_warm(way)
                try:
                    await self._tunnels.warm.keep()
                finally:
                    loop.remove_reader(local)  # a group that is ending takes no more tasks
        finally:
            local.close()

    def _arrived(self, local: socket.socket, tasks: asyncio.TaskGroup) -> None:
        buffer = receive_buffer()
        now = asyncio.get_running_loop().time()
        with contextlib.suppress(OSError):  # nothing left
            for _ in range(DATAGRAM_BURST):
                size, address = local.recvfrom_into(buffer)
                flow = self._flow(local, address, tasks, now)
                if flow is None or not flow.send(bytes(buffer[:size])):
                    self.dropped += 1

    def _flow(self, local: socket.socket, address: Any, tasks: asyncio.TaskGroup, now: float) -> _Flow | None:
        """The flow of a local address, the one with the freshest use from now on; None if there is no room for it."""
        flow = self._flows.get(address)
        if flow is None or (flow.stream is not None and flow.stream.ending):  # cut, or ended by the gateway's clock
            self._flows.pop(address, None)
            if len(self._flows) >= MAX_FLOWS and not self._make_room(now):
                self._complain(f"{MAX_FLOWS} local addresses use this port at once; others are not served", now)
                return None
            flow = self._flows[address] = _Flow(address, now)
            tasks.create_task(self._serve(flow, local))
        flow.used = now
        self._flows.move_to_end(address)
        return flow

    def _make_room(self, now: float) -> bool:
        oldest = next(iter(self._flows.values()))
        if oldest.stream is None or now - oldest.used < SETTLED:
            return False
        del self._flows[oldest.address]
        oldest.stream.close()
        return True

    async def _serve(self, flow: _Flow, local: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with self._opening:
                tunnel = await open_tunnel(self._state, self._tunnels, self._target)
            stream = tunnel.datagrams(lambda payload: self._answer(flow, local, payload))
            try:
                flow.begin(stream)
                while not stream.closed.done() and (left := flow.used + IDLE - loop.time()) > 0:
                    await asyncio.wait([stream.closed], timeout=left)
                stream.close()
                await stream.closed
            except asyncio.CancelledError:
                stream.cut("closing")
                raise
        except (CommandError, WireError, OSError) as error:
            flow.failed = True
            said = joined(error.what, error.fix) if isinstance(error, CommandError) else str(error)
            self._complain(said, loop.time())
            await asyncio.sleep(RETRY)
        finally:
            if self._flows.get(flow.address) is flow:
                del self._flows[flow.address]

    def _answer(self, flow: _Flow, local: socket.socket, payload: bytes) -> None:
        flow.used = asyncio.get_running_loop().time()
        if self._flows.get(flow.address) is flow:
            self._flows.move_to_end(flow.address)
        try:
            local.sendto(payload, flow.address)
        except OSError:  # a full socket, or an address that is gone
            self.dropped += 1

    def _complain(self, problem: str, now: float) -> None:
        """On stderr, but the same sentence not again and again."""
        at = self._told.get(problem)
        if at is not None and now - at < QUIET:
            return
        self._told = {said: at for said, at in self._told.items() if now - at < QUIET}
        self._told[problem] = now
        self._tell(problem)
