"""One worker as the main process sees it: a process started, spoken to, and gone.

1. A worker is gone when the kernel says so (pidfd_open(2)): all its sockets are closed then, and not before.
2. Whatever is wrong with it (a breach, silence, a cut it does not confirm) ends with SIGKILL: it fails closed.
3. What it said before it went still counts; then `on_gone` is called, once.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import structlog

from gateway import limits
from gateway.leases import Reach, Refusal
from gateway.workers.channel import GONE, Channel, pair
from gateway.workers.messages import (
    MAX_NAMED,
    CountBytes,
    Counted,
    CutDone,
    CutTunnels,
    Leave,
    Permitted,
    Ready,
    Refused,
    Reload,
    Reloaded,
    Start,
    Take,
    ToMain,
    encode,
    packet_of,
    to_main,
)

log = structlog.get_logger()

Ended = asyncio.Future[str]


class Owner(Protocol):
    """Whom a worker's words are for."""

    def heard(self, worker: "Worker", message: ToMain) -> None:
        """It said something about its connections."""

    def ready(self, worker: "Worker") -> None:
        """It serves."""

    def gone(self, worker: "Worker") -> None:
        """It is no more, and everything it had is closed."""


class Worker:
    """A worker process. Made running; OSError if it cannot be started."""

    def __init__(self, number: int, state: Path, start: Start, owner: Owner) -> None:
        self.number = number  # of this process: no other worker of this gateway ever has it
        self.is_ready = False
        self.since = datetime.now(UTC)
        self.cpu_seconds = 0.0
        self.memory_bytes = 0
        self.last_taken = 0.0
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.began = self._loop.time()
        self._cuts: dict[int, tuple[Ended, asyncio.TimerHandle]] = {}
        self._counts: dict[int, asyncio.Future[None]] = {}
        self._reloads: dict[int, tuple[Ended, asyncio.TimerHandle]] = {}
        self._questions = 0
        ours, theirs = pair()
        try:
            ours.send(packet_of([encode(start)]))
            self._process = _spawn(state, theirs)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._channel = Channel(ours, to_main, self._on_message, self._silent)
        self._late = self._loop.call_later(limits.WORKER_START, self.kill, "it did not begin in time")
        self._killed = ""
        self._heard_of = True
        self.exited: asyncio.Future[None] = self._loop.create_future()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it may be given connections."""
        return self._heard_of and not self._killed and self._channel.waiting < limits.WORKER_BACKLOG

    @property
    def how_it_ended(self) -> str:
        """Why it was killed here, or what the kernel says."""
        code = self._process.returncode
        if self._killed:
            return self._killed
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"

    # What it is told

    def take(self, tunnel: UUID, sock: socket.socket) -> None:
        """This connection is its own from here on."""
        self.last_taken = self._loop.time()
        self._channel.send(Take(tunnel), sock)

    def answer(self, tunnel: UUID, answer: Reach | Refusal) -> None:
        """Yes or no to a connection."""
        said = Refused(tunnel, answer) if isinstance(answer, Refusal) else Permitted(tunnel, answer)
        self._channel.send(said)

    def leave(self, tunnel: UUID) -> None:
        """The place of this one is needed, and it has asked for nothing."""
        self._channel.send(Leave(tunnel))

    def cut(self, tunnels: Sequence[UUID], code: str) -> Iterator[Ended]:
        """Ends these; each future is done once what it stands for is gone, the worker's own end included."""
        for start in range(0, len(tunnels), MAX_NAMED):
            number = self._next_question()
            ended: Ended = self._loop.create_future()
            late = self._loop.call_later(limits.CUT_CERTAIN, self.kill, "it did not confirm a cut in time")
            self._cuts[number] = (ended, late)
            self._channel.send(CutTunnels(number, tuple(tunnels[start : start + MAX_NAMED]), code))
            yield ended

    def count(self) -> asyncio.Future[None]:
        """Done when everything `Counted` has been heard, or the worker is gone."""
        number = self._next_question()
        counted = self._counts[number] = self._loop.create_future()
        self._channel.send(CountBytes(number))
        return counted

    def reload(self) -> Ended:
        """Done when handshakes begin with the identity and trust that are on the disk now, or the worker is gone."""
        number = self._next_question()
        done: Ended = self._loop.create_future()
        late = self._loop.call_later(limits.WORKER_START, self.kill, "it did not take its new certificates in time")
        self._reloads[number] = (done, late)
        self._channel.send(Reload(number=number))
        return done

    def stop(self) -> None:
        """Told to end: it resets what it has and exits. One that lingers is killed."""
        if not self.exited.done():
            self._late.cancel()
            self._late = self._loop.call_later(limits.WORKER_STOP, self.kill, "it did not stop in time")
            self._channel.close()

    def kill(self, why: str) -> None:
        """Ends it now. Its sockets are closed by the kernel, and `gone` follows."""
        if self._killed or self.exited.done():
            return
        self._killed = why
        self._process.kill()

    def _silent(self, why: str) -> None:
        self._heard_of = False
        if why == GONE:
            self._process.kill()  # if it only closed its end
        else:
            self.kill(why)

    # What it says

    def _on_message(self, message: ToMain, _socket: socket.socket | None) -> None:
        match message:
            case Ready():
                self.is_ready = True
                self._late.cancel()
                self._owner.ready(self)
            case CutDone(number=number):
                ended, late = self._cuts.pop(number)
                late.cancel()
                _settle(ended, "cut")
            case Reloaded(number=number):
                done, late = self._reloads.pop(number)
                late.cancel()
                _settle(done, "reloaded")
            case Counted():
                self.cpu_seconds, self.memory_bytes = message.cpu_seconds, message.memory_bytes
                self._owner.heard(self, message)
                if not message.more and (counted := self._counts.pop(message.number, None)) is not None:
                    _settle(counted, None)
            case _:
                self._owner.heard(self, message)

    def _exited(self) -> None:
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        self._late.cancel()
        self._channel.drain()
        self._channel.close()
        self.exited.set_result(None)
        for waiting in (self._cuts, self._reloads):
            for ended, late in waiting.values():
                late.cancel()
                _settle(ended, "gone")
            waiting.clear()
        for counted in self._counts.values():
            _settle(counted, None)
        self._counts.clear()
        self._owner.gone(self)

    def _next_question(self) -> int:
        self._questions += 1
        return self._questions


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _spawn(state: Path, theirs: socket.socket) -> subprocess.Popen[bytes]:
    """Starts the program anew rather than forking this one: nothing of our memory, no other open file.

    A session of its own: Ctrl-C at a terminal is for the main process, which ends its workers in order.
    """
    number = theirs.fileno()
    return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
        [sys.executable, "-P", "-m", "gateway.workers.process", str(state), str(number)],
        stdin=subprocess.DEVNULL,
        pass_fds=(number,),
        start_new_session=True,
    )
