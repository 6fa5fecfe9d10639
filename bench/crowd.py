"""Many streams through one relay at once, all in one direction, driven by one thread that does as little as it can.

A crowd stands from round to round. Between rounds it neither reads nor writes, so that everything stalls and costs
nothing; every round begins with traffic that is not counted, until the buffers along the way are as they stay.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.stream import Stream

WARM_SECONDS = 0.25
CALM_SECONDS = 0.05  # a relay whose CPU clock stands still for so long has nothing left to do
MOST_CALMS = 40
_TURN = 1 << 20
_BLOCK = 65_536
COMMANDS = {"down": b"pour\n", "up": b"sink\n"}


@dataclass(frozen=True, slots=True)
class Flow:
    """What a crowd moved in a time: bytes on the wire, CPU seconds of the relay and of this process."""

    bytes: int
    wall_seconds: float
    cpu_seconds: float
    load_cpu_seconds: float


class Crowd:
    """Streams that all pour (`down`: the relay seals) or sink (`up`: it opens)."""

    def __init__(self, direction: str, streams: Sequence[Stream]) -> None:
        self._streams = {stream.socket.fileno(): stream for stream in streams}
        self._scratch = bytearray(_TURN)
        self._pending = dict.fromkeys(self._streams, memoryview(b""))
        self._poll = select.epoll()
        self._step = self._discard if direction == "down" else self._send
        for number, stream in self._streams.items():
            stream.say(COMMANDS[direction])
            stream.socket.setblocking(False)  # noqa: FBT003 - the socket module's own way
            self._poll.register(number, select.EPOLLIN if direction == "down" else select.EPOLLOUT)

    def measure(self, seconds: float, cpu: Callable[[], float]) -> Flow:
        """Traffic for so long, and what it took by the relay's `cpu` clock. Blocking: run it in a thread."""
        self._run(WARM_SECONDS)
        before, mine, began = cpu(), time.process_time(), time.monotonic()
        moved = self._run(seconds)
        flow = Flow(moved, time.monotonic() - began, cpu() - before, time.process_time() - mine)
        calm(cpu)
        return flow

    def _run(self, seconds: float) -> int:
        end, moved = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0:
            for number, _ in self._poll.poll(left):
                moved += self._step(number)
        return moved

    def _discard(self, number: int) -> int:
        got = self._streams[number].socket.recv_into(self._scratch, _TURN, socket.MSG_TRUNC)
        if not got:
            raise RuntimeError("the relay ended a stream")
        return got

    def _send(self, number: int) -> int:
        stream, pending = self._streams[number], self._pending[number]
        if not pending:
            pending = memoryview(stream.seal(bytes(_BLOCK)))
        with contextlib.suppress(BlockingIOError):
            sent = stream.socket.send(pending)
            self._pending[number] = pending[sent:]
            return sent
        self._pending[number] = pending
        return 0

    def close(self) -> None:
        """No more traffic. The streams are their maker's to close."""
        self._poll.close()


def calm(cpu: Callable[[], float]) -> None:
    """Wait until the relay has nothing left to do, so that the next side has the machine to itself."""
    last = cpu()
    for _ in range(MOST_CALMS):
        time.sleep(CALM_SECONDS)
        now = cpu()
        if now - last < CALM_SECONDS / 20:
            return
        last = now
