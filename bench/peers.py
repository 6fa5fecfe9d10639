"""What people use today for the same work: HAProxy and stunnel, mutual TLS 1.3 in front of the same resource.

(fwknopd, which takes knocks, is in `fwknop`.) Both run in the foreground with the configuration their manuals give for
this, one thread where that can be chosen (stunnel has a thread for each connection). A peer that is not installed is
left out, and the report says so.
"""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.certificates import PeerCertificates
from lab.processes import LabError, Process

PORT = 8443
READY_SECONDS = 10
WHERE = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"

_HAPROXY = """\
global
    nbthread {threads}
    maxconn 4096
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend tls
    bind {listen} ssl crt {server} ca-file {authorities} verify required
    default_backend resource
backend resource
    server resource {target}
"""

_STUNNEL = """\
foreground = yes
pid =
syslog = no
debug = 4
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[resource]
accept = {listen}
connect = {target}
cert = {server}
CAfile = {authorities}
verifyChain = yes
requireCert = yes
sslVersionMin = TLSv1.3
ciphersuites = TLS_AES_256_GCM_SHA384
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A program we can compare with."""

    name: str
    programs: tuple[str, ...]
    configuration: str
    options: tuple[str, ...]
    version_options: tuple[str, ...]
    version_of: Callable[[str], str]

    def program(self) -> str | None:
        """Where it is installed, if it is."""
        found = (shutil.which(each, path=WHERE) for each in self.programs)
        return next((each for each in found if each), None)

    def version(self) -> str | None:
        """The version it gives itself, None where it is missing."""
        program = self.program()
        if program is None:
            return None
        done = subprocess.run([program, *self.version_options], capture_output=True, text=True, timeout=10, check=False)
        return self.version_of(done.stdout + done.stderr)


def _haproxy_version(text: str) -> str:
    openssl = [line.rpartition(": ")[2] for line in text.splitlines() if line.startswith("Running on OpenSSL")]
    return f"{text.split()[2]}, {openssl[0] if openssl else 'unknown OpenSSL'}"


def _stunnel_version(text: str) -> str:
    words = text.split()
    openssl = [line.split("with ")[1] for line in text.splitlines() if " with OpenSSL" in line]
    return f"{words[words.index('stunnel') + 1]}, {openssl[-1] if openssl else 'unknown OpenSSL'}"


def _fwknopd_version(text: str) -> str:
    return text.split()[2].rstrip(",")


HAPROXY = Kind("HAProxy", ("haproxy",), _HAPROXY, ("-db", "-f"), ("-vv",), _haproxy_version)
STUNNEL = Kind("stunnel", ("stunnel4", "stunnel"), _STUNNEL, (), ("-version",), _stunnel_version)
KINDS = (HAPROXY, STUNNEL)
FWKNOPD = Kind("fwknopd", ("fwknopd",), "", (), ("--version",), _fwknopd_version)  # run by `fwknop`


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer."""

    name: str
    pid: int
    host: str
    port: int


@contextlib.asynccontextmanager
async def running(
    kind: Kind, certificates: PeerCertificates, target: str, host: str, directory: Path, *, threads: int = 1
) -> AsyncIterator[Peer | None]:
    """The peer in front of `target` (HOST:PORT) at `host`, with so many `threads` if it lets us choose that.

    None if it is not installed.
    """
    program = kind.program()
    if program is None:
        yield None
        return
    configuration = directory / f"{kind.name.lower()}-{host}.conf"
    listen = f"{host}:{PORT}"
    configuration.write_text(
        kind.configuration.format(
            listen=listen,
            target=target,
            server=certificates.server,
            authorities=certificates.authorities,
            threads=threads,
        )
    )
    log = directory / f"{kind.name.lower()}-{host}.log"
    process = await Process.start(kind.name, [program, *kind.options, str(configuration)], log=log)
    try:
        await _listening(process, host)
        yield Peer(kind.name, process.pid, host, PORT)
    finally:
        await process.stop()


async def _listening(process: Process, host: str) -> None:
    """Neither says when it is ready, so ask."""
    async with asyncio.timeout(READY_SECONDS):
        while process.running:
            try:
                _, writer = await asyncio.open_connection(host, PORT)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
    raise LabError(f"{process.name} ended:\n{process.tail()}")
