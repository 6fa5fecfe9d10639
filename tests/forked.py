"""Starting gloam's commands by forking them from one process that has imported everything (forkserver.py).

The test's half of it: a `spawn` for lab/processes.py. What is not ours, is given variables that count when a program
starts, or belongs to another network is executed as usual.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from lab.processes import Child, die_with_parent, execute, script

MODULES: Final = {
    script("gloam"): "client",
    script("gloam-controller"): "controller",
    script("gloam-gateway"): "gateway",
}
NETWORK: Final = Path("/proc/thread-self/ns/net")
AT_THE_START: Final = ("LD_", "PYTHON", "OPENSSL_", "FAKETIME", "MALLOC_")
"""Variables that mean something when a program starts: a fork would come too late for them."""
LONGEST_REPLY: Final = 32


class Forked:
    """A command that was forked, to be used as an `asyncio.subprocess.Process`."""

    def __init__(
        self, pid: int, connection: socket.socket, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader | None
    ) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._stderr = stderr
        self._end = asyncio.create_task(self._reaped(connection), name=f"end of {pid}")

    async def _reaped(self, connection: socket.socket) -> int:
        with connection:
            self.returncode = int(await asyncio.get_running_loop().sock_recv(connection, LONGEST_REPLY))
        return self.returncode

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await asyncio.shield(self._end)

    async def communicate(self) -> tuple[bytes, bytes]:
        """What it writes until it ends."""
        streams = [stream.read() for stream in (self.stdout, self._stderr) if stream is not None]
        out, *err = await asyncio.gather(*streams)
        await self.wait()
        return out, b"".join(err)

    def send_signal(self, number: int) -> None:
        """Signals it, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The process they are forked from. Everything that was forked ends with this context."""

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="gloam-forks-")
        self._address = str(Path(self._directory.name) / "s")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._address)
            listener.listen(64)
            self._network = NETWORK.readlink()
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.forkserver"], stdin=listener, cwd=Path(__file__).parents[1],
                start_new_session=True, preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
            )  # fmt: skip
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.terminate()
        self._server.wait()
        self._directory.cleanup()

    async def spawn(
        self, argv: Sequence[str], *, env: Mapping[str, str], text: bytes | None = None, together: bool = False
    ) -> Child:
        """As `lab.processes.execute`."""
        command, environ = list(argv), {**os.environ, **env}
        if command[:2] == [sys.executable, "-m"] and command[2].startswith("lab."):
            module, command = command[2], command[2:]
        else:
            module = MODULES.get(command[0], "")
        early = any(key.startswith(AT_THE_START) and os.environ.get(key) != value for key, value in environ.items())
        if early or not module or NETWORK.readlink() != self._network:
            return await execute(argv, env=env, text=text, together=together)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._address)
        connection.setblocking(False)  # noqa: FBT003
        stdout, into_stdout = await _pipe()
        stderr, into_stderr = (None, into_stdout) if together else await _pipe()
        stdin = _with(text)
        asked = json.dumps({"argv": command, "environ": environ, "module": module}).encode()
        socket.send_fds(connection, [asked], [stdin, into_stdout, into_stderr])
        for each in {stdin, into_stdout, into_stderr}:
            os.close(each)
        pid = int(await asyncio.get_running_loop().sock_recv(connection, LONGEST_REPLY))
        return Forked(pid, connection, stdout, stderr)


def _with(text: bytes | None) -> int:
    """A standard input that has this text: short enough for a pipe to hold."""
    if text is None:
        return os.open(os.devnull, os.O_RDONLY)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    try:
        if os.write(theirs, text) < len(text):
            raise ValueError("too long for a pipe to hold")
    finally:
        os.close(theirs)
    return ours


async def _pipe() -> tuple[asyncio.StreamReader, int]:
    """What is written into the descriptor comes out of the reader."""
    ours, theirs = os.pipe()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(ours, "rb", 0))
    return reader, theirs
