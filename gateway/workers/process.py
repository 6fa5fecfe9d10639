"""A worker: `python -m gateway.workers.process STATE FD`, started by the main process and by nobody else.

1. It decides nothing: every tunnel is asked for, and what the main process does not say is no.
2. Signals for stopping are the main process's business. When that is gone, or says what it may not, everything here is
   reset and the worker exits: fail closed.
3. It waits for messages and sockets only: without tunnels it uses no CPU.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final, assert_never
from uuid import UUID

import structlog

from certs.names import Purpose
from certs.store import IdentityStore, Trust
from console.logs import configure_logs
from gateway.config import IDENTITY, TRUST
from gateway.leases import Carried
from gateway.lifetimes import Lifetimes
from gateway.loop import new_event_loop
from gateway.tunnels import Tunnels
from gateway.workers.channel import Channel, first_packet
from gateway.workers.messages import (
    MAX_NAMED,
    Asks,
    CountBytes,
    Counted,
    CutDone,
    CutTunnels,
    Ended,
    Leave,
    Opened,
    Parked,
    Permitted,
    Ready,
    Refused,
    Reload,
    Reloaded,
    Report,
    Start,
    Take,
    ToWorker,
    Verified,
    read_start,
    to_worker,
)
from wire.tls import ServerTls

log = structlog.get_logger()

_NOT_OURS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LAST_RESORT: Final = 1.0
"""Seconds until a worker that should have ended does so without tidying up."""


class Process:
    """The worker's side of everything: it is `gateway.tunnels.Main` to its tunnels."""

    def __init__(self, state: Path, start: Start, sock: socket.socket) -> None:
        self._state = state
        self._tunnels = Tunnels(
            _tls(state),
            self,
            dial_deadline=start.dial_seconds,
            lifetimes=Lifetimes(start.tunnel_idle, start.tunnel_lifetime),
            udp_lifetimes=Lifetimes(start.udp_idle, start.tunnel_lifetime),
        )
        self._over = asyncio.Event()
        self._cutting: set[asyncio.Task[None]] = set()
        self._sock = sock
        self._channel: Channel[ToWorker]

    async def run(self) -> None:
        """Serves until the main process is gone."""
        serving = asyncio.create_task(self._tunnels.run())
        await asyncio.sleep(0)  # the tunnels' tasks have an owner from here on, so connections may come
        self._channel = Channel(self._sock, to_worker, self._on_message, self._on_end, with_socket=Take)
        self._channel.send(Ready())
        await self._over.wait()
        asyncio.get_running_loop().call_later(_LAST_RESORT, os._exit, 1)
        serving.cancel()
        await asyncio.wait([serving])
        self._channel.close()

    # What the main process says

    def _on_message(self, message: ToWorker, sock: socket.socket | None) -> None:
        match message:
            case Take() if sock is not None:
                sock.setblocking(False)  # noqa: FBT003 - the socket module's own way
                self._tunnels.accept(message.tunnel, sock)
            case Take():
                raise AssertionError("the channel hands over every socket announced")
            case Permitted():
                self._tunnels.answer(message.tunnel, message.reach)
            case Refused():
                self._tunnels.answer(message.tunnel, message.refusal)
            case Leave():
                self._tunnels.leave(message.tunnel)
            case CutTunnels():
                ended = self._tunnels.cut(message.tunnels, message.code)
                task = asyncio.get_running_loop().create_task(self._confirm(message.number, ended))
                self._cutting.add(task)
                task.add_done_callback(self._cutting.discard)
            case CountBytes():
                self._count(message.number)
            case Reload():
                self._tunnels.tls = _tls(self._state)
                self._channel.send(Reloaded(number=message.number))
            case _:
                assert_never(message)

    async def _confirm(self, number: int, ended: list[asyncio.Future[str]]) -> None:
        if ended:
            await asyncio.wait(ended)
        self._channel.send(CutDone(number))

    def _count(self, number: int) -> None:
        counts = self._tunnels.byte_counts()
        cpu_seconds, memory_bytes = time.process_time(), _memory_bytes()
        size = MAX_NAMED // 2
        for start in range(0, max(1, len(counts)), size):
            self._channel.send(
                Counted(
                    number=number,
                    tunnels=tuple(counts[start : start + size]),
                    cpu_seconds=cpu_seconds,
                    memory_bytes=memory_bytes,
                    more=start + size < len(counts),
                )
            )

    def _on_end(self, why: str) -> None:
        log.debug("the main process is heard no more", why=why)
        self._over.set()

    # What tunnels tell and ask

    def verified(self, tunnel: UUID, session: UUID) -> None:
        """`gateway.tunnels.Main`."""
        self._channel.send(Verified(tunnel, session), at_leisure=True)

    def parked(self, tunnel: UUID) -> None:
        """`gateway.tunnels.Main`."""
        self._channel.send(Parked(tunnel))

    def asks(self, tunnel: UUID, name: str, port: int, protocol: Carried) -> None:
        """`gateway.tunnels.Main`."""
        self._channel.send(Asks(tunnel, name, port, protocol))

    def report(self, report: Report) -> None:
        """`gateway.tunnels.Main`."""
        self._channel.send(report, at_leisure=True)
        if isinstance(report, Opened):
            self._channel.flush()  # whatever becomes of this process, what went through it was heard of

    def ended(self, tunnel: UUID) -> None:
        """`gateway.tunnels.Main`."""
        self._channel.send(Ended(tunnel), at_leisure=True)


def _memory_bytes() -> int:
    """What of this process is in memory; 0 where /proc does not say."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _tls(state: Path) -> ServerTls:
    """What handshakes begin with: who this gateway is, and whose sessions it knows."""
    trust = Trust.from_pem((state / TRUST).read_bytes())
    return ServerTls(IdentityStore(state).load(IDENTITY), trust, frozenset({Purpose.SESSIONS}))


async def serve(state: Path, start: Start, sock: socket.socket) -> None:
    """The life of a worker."""
    await Process(state, start, sock).run()


def main(arguments: list[str]) -> int:
    """Exit code 0 when the main process ended, 2 when nobody of ours started this."""
    for number in _NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    try:
        state, descriptor = arguments
        sock = socket.socket(fileno=int(descriptor))
        sock.set_inheritable(False)
        start = read_start(first_packet(sock))
    except (ValueError, OSError):
        sys.stderr.write("a worker is started by the gateway itself; use: gloam-gateway run\n")
        return 2
    configure_logs(start.log_json, start.log_level)
    gc.freeze()  # what is imported stays: collections need not look at it again
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(Path(state), start, sock))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
