"""The same knocks at fwknopd: CPU of a valid one, and of one that a stranger made.

It runs as its manual says (UDP server, AES and HMAC keys, iptables), but in a network namespace of its own, so that its
rules never touch this machine's, and with its log thrown away, which it would otherwise spend time on. Knocks are made
by its own client: valid ones open a port for an address that has none yet, strangers' have keys it does not know. Its
CPU is its own, exactly, and that of the iptables it ran, in the kernel's ticks of 10 ms over many knocks.
"""

import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.cpu import process_seconds
from bench.peers import FWKNOPD, WHERE
from lab.processes import LabError, finish

MANY_KEYS = 500
PORT = 62201
READY_SECONDS = 10
CALM_SECONDS = 0.2
TICK = 0.005
STEP_SECONDS = 10

_SETTINGS = """\
ENABLE_UDP_SERVER Y;
UDPSERV_PORT {port};
FWKNOP_RUN_DIR {run};
FWKNOP_PID_FILE {run}/fwknopd.pid;
DIGEST_FILE {run}/digest.cache;
"""

_STANZA = """\
SOURCE ANY
KEY_BASE64 {key}
HMAC_KEY_BASE64 {hmac}
FW_ACCESS_TIMEOUT 120

"""


@dataclass(frozen=True, slots=True, repr=False)
class _Keys:
    """What a client and the server share."""

    key: str
    hmac: str

    @classmethod
    def new(cls) -> "_Keys":
        return cls(*(base64.b64encode(secrets.token_bytes(size)).decode() for size in (32, 64)))


class _Server:
    """A running fwknopd that knows so many keys."""

    def __init__(self, namespace: str, pid: int, known: _Keys) -> None:
        self._namespace = namespace
        self._client = shutil.which("fwknop", path=WHERE) or "fwknop"
        self._addresses = _addresses()
        self.pid = pid
        self.known = known

    def cpu(self) -> float:
        """Of itself and of every program it has run to its end."""
        times = psutil.Process(self.pid).cpu_times()
        return process_seconds(self.pid) + float(times.children_user + times.children_system)

    async def knock(self, keys: _Keys) -> None:
        """One knock, by fwknop's own client, for an address that had none before."""
        argv = ["ip", "netns", "exec", self._namespace, self._client, "--no-rc-file", "--no-save-args", "--use-hmac"]
        argv += ["-A", "tcp/22", "-a", next(self._addresses), "-D", "127.0.0.1", "-P", "udp", "-p", str(PORT)]
        argv += ["--key-base64-rijndael", keys.key, "--key-base64-hmac", keys.hmac]
        done = await finish(argv, seconds=STEP_SECONDS)
        if done.code != 0:
            raise LabError(f"fwknop exited {done.code}: {done.err or done.out}")

    async def opened(self) -> int:
        """Rules it has made."""
        listed = await finish(["ip", "netns", "exec", self._namespace, "iptables", "-S", "FWKNOP_INPUT"])
        return sum(line.startswith("-A") for line in listed.out.splitlines())

    def lost(self) -> int | None:
        """Datagrams the kernel dropped before it read them; None while it does not listen."""
        for line in Path(f"/proc/{self.pid}/net/udp").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(f":{PORT:04X}"):
                return int(fields[-1])
        return None

    async def calm(self) -> float:
        """Its CPU seconds, once they stand still."""
        last = self.cpu()
        while True:
            await asyncio.sleep(CALM_SECONDS)
            now = self.cpu()
            if now - last < TICK:
                return now
            last = now


def _addresses() -> Iterator[str]:
    for number in range(1, 1 << 16):
        yield f"10.9.{number // 250}.{number % 250 + 1}"


async def measure_fwknopd(valid: int, strangers: int) -> AsyncGenerator[dict[str, Any], None]:
    """`valid` knocks at a server with one key, `strangers` at that and at one with many; or why it cannot be."""
    if why := _missing():
        yield {"side": FWKNOPD.name, "skipped": why}
        return
    async with _serving(1) as server:
        before = await server.calm()
        for _ in range(valid):
            await server.knock(server.known)
        taken = await server.calm() - before
        yield _sample("valid", 1, valid, await server.opened(), taken)
        yield await _strange(server, 1, strangers)
    async with _serving(MANY_KEYS) as server:
        yield await _strange(server, MANY_KEYS, strangers)


async def _strange(server: _Server, keys: int, count: int) -> dict[str, Any]:
    before = await server.calm()
    for _ in range(count):
        await server.knock(_Keys.new())
    taken = await server.calm() - before
    return _sample("garbage", keys, count, count - (server.lost() or 0), taken)


def _sample(kind: str, keys: int, sent: int, judged: int, taken: float) -> dict[str, Any]:
    return {
        "side": FWKNOPD.name,
        "kind": kind,
        "keys": keys,
        "sent": sent,
        "judged": judged,
        "cpu_seconds": taken,
    }


def _missing() -> str | None:
    """Why it cannot run here."""
    if FWKNOPD.program() is None or shutil.which("fwknop", path=WHERE) is None:
        return "fwknopd was not measured: apt-get install fwknop-server fwknop-client"
    if os.geteuid() != 0:
        return "fwknopd was not measured: its namespace needs root"
    return None


@contextlib.asynccontextmanager
async def _serving(keys: int) -> AsyncIterator[_Server]:
    namespace = f"gloam-bench-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="gloam-bench-") as text:
        known = [_Keys.new() for _ in range(keys)]
        settings, access = _write(Path(text), known)
        await _ip("netns", "add", namespace)
        try:
            await _ip("-n", namespace, "link", "set", "lo", "up")
            argv = ["ip", "netns", "exec", namespace, str(FWKNOPD.program()), "-f", "-c", settings, "-a", access]
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(*argv, stdin=quiet, stdout=quiet, stderr=quiet)
            try:
                server = _Server(namespace, process.pid, known[0])
                async with asyncio.timeout(READY_SECONDS):
                    while server.lost() is None:
                        if process.returncode is not None:
                            raise LabError(f"fwknopd exited {process.returncode}")
                        await asyncio.sleep(0.05)
                yield server
            finally:
                if process.returncode is None:
                    process.terminate()
                    try:
                        await asyncio.wait_for(process.wait(), STEP_SECONDS)
                    except TimeoutError:
                        process.kill()
                        await process.wait()
        finally:
            await asyncio.shield(_ip("netns", "del", namespace))


def _write(directory: Path, known: list[_Keys]) -> tuple[str, str]:
    run, settings, access = directory / "run", directory / "fwknopd.conf", directory / "access.conf"
    run.mkdir(mode=0o700)
    for path, text in (
        (settings, _SETTINGS.format(port=PORT, run=run)),
        (access, "".join(_STANZA.format(key=each.key, hmac=each.hmac) for each in known)),
    ):
        path.touch(mode=0o600)
        path.write_text(text, encoding="ascii")
    return str(settings), str(access)


async def _ip(*arguments: str) -> None:
    done = await finish(["ip", *arguments], seconds=STEP_SECONDS)
    if done.code != 0:
        raise LabError(f"ip {' '.join(arguments)}: {done.err}")
