"""One real process: its output in a log file, its death tied to ours.

A server counts as ready when its output has a line with `ready` in it (or another word it is known to print then).
Nothing here polls: a reader follows the process's output.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

STOP_SECONDS = 15
LINES_KEPT = 1_000
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class LabError(Exception):
    """A process of the lab did not do what it should; the message holds the end of its log."""


def script(name: str) -> str:
    """Where the console script `name` of this environment is."""
    return str(Path(sys.executable).parent / name)


def die_with_parent() -> None:
    """Runs in the child: a lab that is killed takes its processes with it."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child(Protocol):
    """What the lab needs of an `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int:
        """Its id."""

    @property
    def returncode(self) -> int | None:
        """Its exit code, or None while it runs."""

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        """What it writes."""

    async def wait(self) -> int:
        """Its exit code, once it has ended."""

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it writes until it ends."""

    def send_signal(self, number: int, /) -> None:
        """Signals it, if it still runs."""

    def kill(self) -> None:
        """Ends it."""


class Spawn(Protocol):
    """How a process is started: `execute`, unless somebody knows a cheaper way."""

    async def __call__(
        self, argv: Sequence[str], *, env: Mapping[str, str], text: bytes | None = None, together: bool = False
    ) -> Child:
        """Start it."""


async def execute(
    argv: Sequence[str], *, env: Mapping[str, str], text: bytes | None = None, together: bool = False
) -> Child:
    """Start `argv` with `env` besides ours, `text` as its input, and its errors `together` with its output."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL if text is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT if together else asyncio.subprocess.PIPE,
        env={**os.environ, **env},
        start_new_session=True,  # Ctrl-C is for the lab, which then stops its processes in order
        preexec_fn=die_with_parent,
    )
    if process.stdin is not None and text is not None:
        process.stdin.write(text)
        process.stdin.close()
    return process


class Process:
    """A server of the lab. Made by `await Process.start(…)`."""

    def __init__(self, name: str, process: Child, log: Path, awaited: bytes) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._awaited = awaited
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._news = asyncio.Event()
        self._follower = asyncio.create_task(self._follow(), name=f"log of {name}")

    @classmethod
    async def start(
        cls,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        awaited: bytes = b"ready",
        spawn: Spawn = execute,
    ) -> "Process":
        """Start `argv`; its stdout and stderr go to `log`."""
        return cls(name, await spawn(argv, env=env or {}, together=True), log, awaited)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    async def _follow(self) -> None:
        stream = self._process.stdout
        if stream is None:
            raise LabError(f"{self.name} has no output to follow")
        with self.log.open("ab") as log:
            async for line in stream:
                log.write(line)
                log.flush()
                if self._awaited in line and not self._ready.done():
                    self._ready.set_result(line.decode(errors="replace"))
                self._lines.append(line.decode(errors="replace").rstrip())
                self._news.set()

    async def ready(self, seconds: float = 30) -> str:
        """The line that says it is ready. Raises LabError if it ends or stays silent."""
        either: set[asyncio.Future[Any]] = {self._ready, self._follower}
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done():
            return self._ready.result()
        what = "did not become ready" if self.running else "ended"
        raise LabError(f"{self.name} {what}; the end of its log:\n{self.tail()}")

    async def said(self, text: str, seconds: float = 30) -> str:
        """The first line with `text` in it that this has not returned before. Raises TimeoutError if none comes."""
        async with asyncio.timeout(seconds):
            while True:
                if found := next((line for line in self._lines if text in line), None):
                    self._lines.remove(found)
                    return found
                self._news.clear()
                await self._news.wait()

    def tail(self, lines: int = 20) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.running:
            self._process.send_signal(number)

    async def wait(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code, once it has ended by itself."""
        await asyncio.wait_for(asyncio.gather(self._process.wait(), self._follower), seconds)
        return self._process.returncode or 0

    async def stop(self) -> int:
        """SIGTERM, then SIGKILL for what does not listen."""
        self.send(signal.SIGTERM)
        try:
            return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """SIGKILL."""
        self.send(signal.SIGKILL)
        code = await self._process.wait()
        await asyncio.gather(self._follower, return_exceptions=True)
        return code


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ran to its end."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document it printed."""
        return json.loads(self.out)


async def finish(
    argv: Sequence[str],
    *,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
    seconds: float = 60,
    spawn: Spawn = execute,
) -> Finished:
    """Run `argv` to its end with `text` as its input."""
    process = await spawn(argv, env=env or {}, text=None if text is None else text.encode())
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise
    return Finished(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
