"""Two ends that talk at once, each knowing what the other must say: `python -m lab.talk HOST:PORT` is the hidden end.

1. The visitor's first bytes say what each will send: where in a block of random bytes that both have, how much, and
   over how many seconds.
2. Each end sends its own and ends its direction when it is done, whatever the other still has to say.
3. Every byte is compared. A talk is `whole` only if both directions came to their ends with all their bytes.

The hidden end says `talked WHOLE BROKEN WRONG` when it is told to stop.
"""

import asyncio
import random
import signal
import struct
import sys
from dataclasses import dataclass
from typing import Final, Literal

from console.address import HostPort

Outcome = Literal["whole", "broken", "wrong", "left"]

_BLOCK: Final = random.Random(11).randbytes(1 << 20)  # noqa: S311 - both ends must know it, nobody must not
_TWICE: Final = memoryview(_BLOCK + _BLOCK)  # so that no piece has to wrap around
_SIZE: Final = len(_BLOCK)
_PIECE: Final = 65_536
_HEAD: Final = struct.Struct("!IQIQd")
_STEPS: Final = 16
_LAST: Final = 20.0  # seconds for what is on its way when the hidden end is told to stop


@dataclass(frozen=True, slots=True)
class Stream:
    """What one end says: `count` bytes of the block, over and over, from `offset`."""

    offset: int
    count: int

    def piece(self, at: int, size: int) -> memoryview:
        """The bytes from `at`, at most `size` and at most a block."""
        begin = (self.offset + at) % _SIZE
        return _TWICE[begin : begin + min(size, self.count - at, _SIZE)]


class End(asyncio.Protocol):
    """One end of a talk; `over` says how it went. The hidden end learns from the head what to say and to hear."""

    def __init__(
        self,
        says: Stream | None = None,
        hears: Stream | None = None,
        *,
        seconds: float = 0.0,
        leaves_at: int | None = None,
    ) -> None:
        self.over: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._says = says
        self._hears = hears
        self._seconds = seconds
        self._leaves_at = leaves_at
        self._steps = 0
        self._head = b""
        self._said = self._heard = 0
        self._finished = self._ended = self._held = False
        self._transport: asyncio.Transport

    def begin(self, transport: asyncio.Transport) -> None:
        """As the visitor, on a tunnel that stands."""
        if self._says is None or self._hears is None:
            raise RuntimeError("a visitor knows what is to be said")
        self._transport = transport
        transport.set_protocol(self)
        transport.resume_reading()
        mine, yours = self._says, self._hears
        transport.write(_HEAD.pack(mine.offset, mine.count, yours.offset, yours.count, self._seconds))
        self._step()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As the hidden end."""
        self._transport = transport  # type: ignore[assignment]  # a stream's

    def data_received(self, data: bytes) -> None:
        """The head, at the hidden end; then what the other says."""
        if self._hears is None:
            self._head += data
            if len(self._head) < _HEAD.size:
                return
            offset, count, my_offset, my_count, self._seconds = _HEAD.unpack_from(self._head)
            self._hears, self._says = Stream(offset, count), Stream(my_offset, my_count)
            data = self._head[_HEAD.size :]
            self._step()
        self._hear(self._hears, data)

    def _hear(self, hears: Stream, data: bytes) -> None:
        view = memoryview(data)
        while view:
            expected = hears.piece(self._heard, len(view))
            if not expected or view[: len(expected)] != expected:
                self._end("wrong")
                return
            self._heard += len(expected)
            view = view[len(expected) :]
        if self._leaves_at is not None and self._heard >= self._leaves_at and not self._finished:
            self._end("left")

    def eof_received(self) -> bool:
        """The other end has said everything."""
        self._ended = True
        if self._hears is None or self._heard != self._hears.count:
            self._end("wrong")
        elif self._finished:
            self._end("whole")
        return True

    def pause_writing(self) -> None:
        """The way is full."""
        self._held = True

    def resume_writing(self) -> None:
        """It is not any more."""
        self._held = False
        self._say()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Over, too early if nobody said how."""
        self._end("broken")

    def _step(self) -> None:
        """Another part of it may be said; the last comes at the end of the time."""
        self._steps += 1
        if self._steps < _STEPS and not self.over.done():
            asyncio.get_running_loop().call_later(self._seconds / _STEPS, self._step)
        self._say()

    def _say(self) -> None:
        says = self._says
        if says is None or self._finished or self.over.done():
            return
        allowed = says.count * self._steps // _STEPS
        while not self._held and self._said < allowed:
            piece = says.piece(self._said, min(_PIECE, allowed - self._said))
            self._said += len(piece)
            self._transport.write(bytes(piece))
        if self._said == says.count and self._steps == _STEPS:
            self._finished = True
            self._transport.write_eof()
            if self._ended:
                self._end("whole")

    def _end(self, outcome: Outcome) -> None:
        if self.over.done():
            return
        self.over.set_result(outcome)
        if outcome == "whole":
            self._transport.close()
        else:
            self._transport.abort()


async def _serve(address: HostPort) -> None:
    loop = asyncio.get_running_loop()
    counts = dict.fromkeys(("whole", "broken", "wrong"), 0)

    talking: set[asyncio.Future[Outcome]] = set()

    def make() -> End:
        end = End()
        talking.add(end.over)
        end.over.add_done_callback(count)
        return end

    def count(over: "asyncio.Future[Outcome]") -> None:
        counts[over.result()] += 1
        talking.discard(over)

    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(make, address.host, address.port, backlog=1024)
    print("ready", flush=True)  # noqa: T201 - what lab.processes waits for
    await stop.wait()
    server.close()
    if talking:
        await asyncio.wait(talking, timeout=_LAST)
    print("talked", *counts.values(), flush=True)  # noqa: T201 - the report


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(HostPort.parse(sys.argv[1])))
