"""Somebody who holds everything a device or gateway keeps, and has written programs of their own.

Real sockets to real processes: the knocks, certificates and bytes are whatever a story chooses. `Watch` reads the audit
log as an administrator would, with `audit tail --follow`.
"""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from certs.identity import Identity
from certs.names import Name, NameKind
from certs.secret import Secret
from certs.store import IdentityStore, read_private
from certs.trust import Trust
from client.state import ClientState
from controller.authority import Authority
from controller.config import database_url, load_controller_settings
from controller.storage import Sealer, Storage
from controller.storage.master import load_master_key
from lab.addresses import KNOCK_PORT, TLS_PORT
from lab.perimeter import DOMAIN, Client, Perimeter
from lab.processes import script
from spa.packet import KnockKey, KnockKind, derive_key
from spa.sender import knock_and_connect
from wire.errors import TlsRefused
from wire.tls import ClientTls, TlsTransport, connect_tls

SECONDS = 30.0
INTRUDER = 240  # the last octet of an address nobody else of a perimeter uses


def wall_us() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Server:
    """A controller or gateway of a perimeter: who it is and where."""

    name: Name
    host: str

    @property
    def kind(self) -> KnockKind:
        return KnockKind.TUNNEL if self.name.kind is NameKind.GATEWAY else KnockKind.CONTROL

    @property
    def where(self) -> str:
        """As the audit log names it."""
        return f"{self.name.kind}/{self.name.id}"


def controller_of(perimeter: Perimeter) -> Server:
    return Server(Name(DOMAIN, NameKind.CONTROLLER, "main"), perimeter.controller_address)


def gateway_of(perimeter: Perimeter, name: str = "edge") -> Server:
    return Server(Name(DOMAIN, NameKind.GATEWAY, name), perimeter.gateways[name])


class Intruder:
    """Knocks, connects and speaks from an address of its own, with the secrets it was given."""

    def __init__(
        self, perimeter: Perimeter, secret: Secret, trust: Trust, *, identity: Identity, session: Identity | None = None
    ) -> None:
        self.secret = secret
        self.trust = trust
        self.identity = identity
        self.session = session
        self.source = perimeter.block.address(INTRUDER)

    @classmethod
    def with_client(cls, perimeter: Perimeter, client: Client) -> "Intruder":
        """Everything a person's machine keeps, the session's key included while there is one."""
        state = ClientState(client.state)
        return cls(perimeter, state.knock_secret(), state.trust(), identity=state.device(), session=state.session())

    @classmethod
    def with_gateway(cls, perimeter: Perimeter, name: str) -> "Intruder":
        """Everything a gateway keeps."""
        state = perimeter.gateway_state(name)
        secret = Secret(read_private(state / "knock.secret"))
        trust = Trust.from_pem((state / "trust.pem").read_bytes())
        return cls(perimeter, secret, trust, identity=IdentityStore(state).load("gateway"))

    @property
    def session_id(self) -> UUID:
        assert self.session is not None
        return UUID(self.session.name.id)

    def knock_key(self, server: Server) -> KnockKey:
        return derive_key(self.secret, server.name)

    async def connect(self, server: Server) -> socket.socket:
        """A TCP connection behind an honest knock."""
        return await knock_and_connect(
            knock_to=(server.host, KNOCK_PORT),
            connect_to=(server.host, TLS_PORT),
            key=self.knock_key(server),
            kind=server.kind,
            session=self.session_id if server.kind is KnockKind.TUNNEL else None,
            clock=wall_us,
            deadline=SECONDS,
            local_addr=(self.source, 0),
        )

    async def open_door(self, server: Server) -> None:
        """The window is open for this address when this returns; what asked for it is gone again."""
        (await self.connect(server)).close()

    @contextlib.asynccontextmanager
    async def speak(
        self, server: Server, *, alpn: str = "http/1.1"
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A verified TLS connection with the certificate this server expects, and nothing said on it yet."""
        identity = self.session if server.kind is KnockKind.TUNNEL else self.identity
        tls = ClientTls(identity, self.trust, server.name, alpn=(alpn,))
        async with spoken(partial(self.connect, server), tls) as streams:
            yield streams


@contextlib.asynccontextmanager
async def spoken(
    dial: Callable[[], Any], tls: ClientTls
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Streams over TLS on a connection that `dial` makes; again once, as an on-demand cloak asks of every client."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    make = partial(asyncio.StreamReaderProtocol, reader)
    try:
        transport, protocol = await connect_tls(await dial(), tls, make, timeout=SECONDS)
    except TlsRefused as refused:
        if refused.reason not in {"closed", "silent"}:
            raise
        transport, protocol = await connect_tls(await dial(), tls, make, timeout=SECONDS)
    try:
        yield reader, asyncio.StreamWriter(transport, protocol, reader, loop)
    finally:
        await gone(transport)


async def gone(transport: TlsTransport) -> None:
    """Aborts a connection and lets the loop close its socket."""
    transport.abort()
    await asyncio.sleep(0)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Whatever the peer says until it ends the connection, gently or not."""
    said = bytearray()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(SECONDS):
            while data := await reader.read(65_536):
                said += data
    return bytes(said)


async def authority_of(perimeter: Perimeter) -> Authority:
    """The certificate authority itself, for certificates that no client can get: read with the controller's own key."""
    state = perimeter.controller_state
    settings = load_controller_settings(state, {})
    sealer = Sealer(load_master_key(state, {}))
    async with await Storage.open(database_url(settings.database, state), sealer) as storage, storage.read() as db:
        return await Authority.load(db, sealer)


class Watch:
    """A running `gloam-controller audit tail --follow`; what it has printed is in `records`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.records: list[dict[str, Any]] = []
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, perimeter: Perimeter, *, past: int = 0) -> AsyncIterator["Watch"]:
        """Reads from now on, and `past` records from before."""
        process = await asyncio.create_subprocess_exec(
            script("gloam-controller"), "audit", "tail", "--follow", "--json", "-n", str(past + 1),
            "--state", str(perimeter.controller_state),
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )  # fmt: skip
        watch = cls(process)
        try:
            await watch._read()  # the newest record of before: from here on nothing is missed
            yield watch
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.communicate()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await self._process.stdout.readline()
        assert line, "the audit log ended"
        self.records.append(json.loads(line))

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event of that kind with those fields, which may have come already."""
        seen = 0
        try:
            while True:
                for record in self.records[seen:]:
                    event: dict[str, Any] = record["event"]
                    if event["kind"] == kind and all(event.get(key) == value for key, value in fields.items()):
                        return event
                seen = len(self.records)
                await self._read()
        except TimeoutError:
            told = "\n".join(str(record["event"]) for record in self.records[-20:])
            raise AssertionError(f"no {kind} with {fields} within {SECONDS:g} s; the last records:\n{told}") from None

    def take(self) -> list[dict[str, Any]]:
        """The events so far; forgets them."""
        events = [record["event"] for record in self.records]
        self.records.clear()
        return events


def untroubled(log: Path) -> None:
    """Nothing in a process's log that a person would have to look into."""
    text = log.read_text(errors="replace")
    assert "Traceback" not in text, text[max(0, text.index("Traceback") - 1000) :][:6000]
    assert "internal error" not in text, text[-4000:]


def environment() -> dict[str, str]:
    """Ours, without any setting of gloam."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GLOAM_")}
