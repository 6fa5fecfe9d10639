"""Streams that `drain.c` empties: a load that leaves a machine of two cores to the relay under test.

The streams' TLS is made here; then their sockets go to a program in C that is compiled when it is needed.
"""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from bench.crowd import COMMANDS, WARM_SECONDS, Flow, calm
from bench.stream import Stream
from lab.processes import LabError, finish

SOURCE = Path(__file__).with_suffix(".c")
_NANO = 1e9
_MILLI = 1000


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which("cc") or shutil.which("gcc")


@contextlib.asynccontextmanager
async def compiled() -> AsyncIterator[Path]:
    """The program, compiled. Raises LabError with what the compiler said."""
    with tempfile.TemporaryDirectory(prefix="gloam-bench-") as directory:
        program = Path(directory) / "drain"
        done = await finish([compiler() or "cc", "-O2", "-o", str(program), str(SOURCE)])
        if done.code != 0:
            raise LabError(f"cc exited {done.code}: {done.err}")
        yield program


class Drain:
    """Streams that all pour, emptied by a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, program: Path, streams: Sequence[Stream]) -> AsyncIterator["Drain"]:
        """The streams' sockets stay ours to close."""
        for stream in streams:
            stream.say(COMMANDS["down"])
        numbers = [stream.socket.fileno() for stream in streams]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            program, *map(str, numbers), stdin=pipe, stdout=pipe, pass_fds=numbers
        )
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def measure(self, seconds: float, cpu: Callable[[], float]) -> Flow:
        """Traffic for so long, after some that is not counted, and what it took by the relay's `cpu` clock."""
        await self._run(WARM_SECONDS)
        before = cpu()
        moved, wall, load = await self._run(seconds)
        flow = Flow(moved, wall / _NANO, cpu() - before, load / _NANO)
        await asyncio.to_thread(calm, cpu)
        return flow

    async def _run(self, seconds: float) -> tuple[int, int, int]:
        if self._process.stdin is None or self._process.stdout is None:
            raise LabError("drain has no pipes")
        self._process.stdin.write(b"%d\n" % (seconds * _MILLI))
        words = (await self._process.stdout.readline()).split()
        if len(words) != 3:
            raise LabError("drain ended early; what it said is above")
        moved, wall, load = map(int, words)
        return moved, wall, load
