"""A whole gateway in this process: real doors, real knocks, real TLS, a real resource; and the commands around it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from certs import Name, NameKind, Purpose, Secret
from certs.store import IdentityStore, make_state_directory, write_private, write_public
from console.address import HostPort
from console.settings import dump_settings, load_settings
from controller.gateways.link import Links
from gateway.config import IDENTITY, KNOCK_SECRET, TRUST, ControllerTable, GatewaySettings, settings_path
from gateway.dial import wall_us
from gateway.run import Gateway
from gateway.status import ask
from spa.admission import Admission
from spa.cloak import CloakName
from spa.door import Door
from spa.packet import KnockKind, derive_key
from spa.sender import knock_and_connect
from wire.connect import Accepted, ClientHandshake, NeedMore, Refused
from wire.errors import TlsRefused
from wire.http import HttpsServer
from wire.limits import ALPN_HTTP
from wire.messages import Address, Lease, Permit, ServedResource
from wire.tls import ClientTls, ServerTls, connect_tls

DOMAIN = "example.test"
CONTROLLER, EDGE = Name(DOMAIN, NameKind.CONTROLLER, "main"), Name(DOMAIN, NameKind.GATEWAY, "edge")
ALICE, LAPTOP = UUID(int=7), UUID(int=1)
GATEWAY_SECRET, LAPTOP_SECRET = Secret(b"g" * 32), Secret(b"l" * 32)


def free_port(kind: NameKind = socket.SOCK_STREAM) -> int:
    with socket.socket(type=kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@dataclass
class Controller:
    """A controller's door with nothing behind it but the link."""

    links: Links
    door: Door
    server: HttpsServer
    leases: list[Lease] = field(default_factory=list)
    notes: list = field(default_factory=list)


@pytest.fixture
async def controller(authority: Any) -> AsyncIterator[Any]:
    def note(event: Any) -> None:
        made.notes.append(event)

    app = web.Application()
    links = Links(
        served_by=lambda _: (ServedResource(name="wiki", port=80),),
        trust=lambda: authority.trust.to_pem().decode(),
        note=note,
        outage_grace=timedelta(seconds=60),
        ping=timedelta(seconds=0.5),
    )

    async def handle(request: Any) -> Any:
        return await links.handle(request)

    async def leases_for(_gateway: Any) -> Any:
        return tuple(made.leases)

    app.router.add_get("/v1/link", handle)
    identity = authority.identity(NameKind.CONTROLLER, "main")
    server = HttpsServer(app, ServerTls(identity, authority.trust, frozenset({Purpose.SERVICES}), alpn=(ALPN_HTTP,)))
    admission = Admission(
        started_us=wall_us(),
        kinds=frozenset({KnockKind.CONTROL}),
        ports=frozenset(),
        lease_live=lambda *_: False,
    )
    key = derive_key(GATEWAY_SECRET, CONTROLLER)
    admission.put("gateway/edge", key, frozenset({KnockKind.CONTROL}), wall_us())
    door = Door(
        listen=("127.0.0.1", 0),
        knock=("127.0.0.1", 0),
        cloak=CloakName.ON_DEMAND,
        admission=admission,
        on_connection=lambda sock, _: server.accept(sock),
    )
    made = Controller(links, door, server)
    await server.start()
    await door.start()
    links.leases_for = leases_for
    yield made
    await door.close()
    await links.close()
    await server.close()


@pytest.fixture
async def echo() -> AsyncIterator[Any]:
    async def serve(reader: Any, writer: Any) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield Address(host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    server.close()


@pytest.fixture
def state(authority: Any, controller: Any, tmp_path: Any) -> Path:
    directory = tmp_path / "gateway"
    make_state_directory(directory)
    IdentityStore(directory).save(IDENTITY, authority.identity(NameKind.GATEWAY, "edge"))
    write_public(directory / TRUST, authority.trust.to_pem())
    write_private(directory / KNOCK_SECRET, GATEWAY_SECRET.reveal())
    settings = GatewaySettings(
        name="edge",
        domain=DOMAIN,
        listen=HostPort("127.0.0.1", free_port()),
        knock=HostPort("127.0.0.1", free_port(socket.SOCK_DGRAM)),
        cloak="on-demand",
        drain="200ms",
        controllers=(
            ControllerTable(
                name="main",
                tls=HostPort("127.0.0.1", controller.door.bound_listen.port),
                knock=HostPort("127.0.0.1", controller.door.bound_knock.port),
            ),
        ),
    )
    write_public(settings_path(directory), dump_settings(settings).encode())
    return directory


def settings_of(state: Path) -> GatewaySettings:
    return load_settings(GatewaySettings, settings_path(state), {})


@pytest.fixture
def lease(echo: Any) -> Lease:
    return Lease(
        session=ALICE,
        device=LAPTOP,
        user="alice",
        knock_keys=(derive_key(LAPTOP_SECRET, EDGE).to_bytes(),),
        permits=(Permit(resource="wiki", port=80, target=echo, protocol="tcp", policies=("grant/1",)),),
        valid_until=datetime.now(UTC) + timedelta(minutes=10),
        policy_revision=1,
    )


@asynccontextmanager
async def running(state: Path) -> AsyncIterator[Any]:
    gateway = Gateway(state, settings_of(state))
    task = asyncio.create_task(gateway.run())
    try:
        yield gateway
    finally:
        gateway.stopping.set()
        await asyncio.wait_for(task, 60)


async def dial(
    settings: GatewaySettings, authority: Any, session: UUID = ALICE, secret: Any = LAPTOP_SECRET, **options: Any
) -> Any:
    identity = authority.identity(NameKind.SESSION, str(session))
    for _ in range(2):
        sock = await knock_and_connect(
            knock_to=(settings.knock.host, settings.knock.port),
            connect_to=(settings.listen.host, settings.listen.port),
            key=derive_key(secret, EDGE),
            kind=KnockKind.TUNNEL,
            session=session,
            clock=wall_us,
            **options,
        )
        reader = asyncio.StreamReader()
        try:
            transport, protocol = await connect_tls(
                sock, ClientTls(identity, authority.trust, EDGE), partial(asyncio.StreamReaderProtocol, reader)
            )
        except TlsRefused as refused:
            if refused.reason != "closed":
                raise
            continue
        return reader, asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    raise AssertionError("no TLS after two knocks")


async def connect(reader: Any, writer: Any, name: str, port: int = 80) -> Any:
    handshake = ClientHandshake(name, port)
    writer.write(handshake.request())
    answer = NeedMore()
    while isinstance(answer, NeedMore):
        answer = handshake.receive(await reader.read(65536))
    return answer


async def test_knock_tls_connect_echo_and_revoke(
    controller: Any, state: Path, authority: Any, lease: Lease, eventually: Any
) -> None:
    controller.leases.append(lease)
    async with running(state) as gateway:
        await eventually(lambda: gateway._door_open)
        reader, writer = await dial(settings_of(state), authority)
        assert isinstance(await connect(reader, writer, "wiki"), Accepted)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        document = await asyncio.to_thread(ask, state)
        assert document["ready"]
        assert document["link"]["up"]
        assert document["cloak"]["name"] == "on-demand"
        assert [each["resource"] for each in document["tunnels"]] == ["wiki"]
        assert [each["user"] for each in document["leases"]] == ["alice"]
        assert "Secret" not in json.dumps(document)
        assert oct((state / "status.sock").stat().st_mode & 0o777) == "0o600"
        assert await controller.links.drop(ALICE, "revoked", "by an administrator", timeout=30) == set()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.transport.abort()
        with pytest.raises(ConnectionError):
            await dial(settings_of(state), authority, deadline=0.4)
        await eventually(lambda: [each for each in controller.notes if each.kind == "tunnel.closed"])
        closed = next(each for each in controller.notes if each.kind == "tunnel.closed")
        assert (closed.user, closed.code, closed.bytes_up, closed.bytes_down) == ("alice", "revoked", 5, 5)
    assert not (state / "status.sock").exists()


async def test_a_knock_for_a_session_that_is_not_live_is_refused_and_told(
    controller: Any, state: Path, authority: Any, lease: Lease, eventually: Any
) -> None:
    controller.leases.append(lease)
    async with running(state) as gateway:
        await eventually(lambda: gateway._door_open)
        with pytest.raises(ConnectionError):
            await dial(settings_of(state), authority, session=UUID(int=50), deadline=0.4)
        await eventually(lambda: [each for each in controller.notes if each.kind == "knock.refused"])
        told = next(each for each in controller.notes if each.kind == "knock.refused")
        assert (told.key_id, told.source, told.code) == (f"device/{LAPTOP}", "127.0.0.1", "lease")


async def test_the_door_stays_shut_until_the_first_snapshot(
    controller: Any, state: Path, authority: Any, lease: Lease, eventually: Any
) -> None:
    controller.leases.append(lease)
    leases_for, controller.links.leases_for = controller.links.leases_for, None
    async with running(state) as gateway:
        await eventually(lambda: "503" in gateway.link.state.problem)
        assert not gateway._door_open
        document = await asyncio.to_thread(ask, state)
        assert not document["ready"]
        with pytest.raises(ConnectionError):
            await dial(settings_of(state), authority, deadline=0.4)
        controller.links.leases_for = leases_for
        await eventually(lambda: gateway._door_open)
        reader, writer = await dial(settings_of(state), authority)
        assert isinstance(await connect(reader, writer, "wiki"), Accepted)
        writer.transport.abort()
        del reader


async def test_a_session_certificate_without_its_own_devices_knock_is_refused(
    controller: Any, state: Path, authority: Any, lease: Lease, eventually: Any
) -> None:
    """A stolen session key behind the window of another device at the same address."""
    other = UUID(int=99)
    controller.leases += [
        lease,
        lease.model_copy(
            update={
                "session": other,
                "device": UUID(int=98),
                "knock_keys": (derive_key(Secret(b"o" * 32), EDGE).to_bytes(),),
            }
        ),
    ]
    async with running(state) as gateway:
        await eventually(lambda: gateway._door_open)
        settings = settings_of(state)
        sock = await knock_and_connect(
            knock_to=(settings.knock.host, settings.knock.port),
            connect_to=(settings.listen.host, settings.listen.port),
            key=derive_key(Secret(b"o" * 32), EDGE),
            kind=KnockKind.TUNNEL,
            session=other,
            clock=wall_us,
        )
        reader = asyncio.StreamReader()
        tls = ClientTls(authority.identity(NameKind.SESSION, str(ALICE)), authority.trust, EDGE)
        transport, protocol = await connect_tls(sock, tls, lambda: asyncio.StreamReaderProtocol(reader))
        writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
        answer = await connect(reader, writer, "wiki")
        assert isinstance(answer, Refused)
        assert answer.status == 403
        assert "has not knocked" in answer.details
        transport.abort()


async def test_stopping_drains_then_cuts_and_tells_the_controller(
    controller: Any, state: Path, authority: Any, lease: Lease, eventually: Any
) -> None:
    controller.leases.append(lease)
    async with running(state) as gateway:
        await eventually(lambda: gateway._door_open)
        reader, writer = await dial(settings_of(state), authority)
        assert isinstance(await connect(reader, writer, "wiki"), Accepted)
        gateway.stopping.set()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.transport.abort()
    await eventually(lambda: [each.code for each in controller.notes if each.kind == "tunnel.closed"])
    assert [each.code for each in controller.notes if each.kind == "tunnel.closed"] == ["gateway_stopped"]


# The commands


def command(*arguments: str, environ: Any = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, **(environ or {})},
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("join", "gloam-invite-v1.nonsense"), 2, "damaged"),
        (("join", "hello"), 2, "not an invite"),
        (("run",), 1, "join with"),
        (("status",), 3, "no gateway runs"),
    ],
)
def test_what_cannot_be_done_is_one_line_with_a_fix(tmp_path: Any, arguments: Any, code: str, says: Any) -> None:
    done = command(*arguments, "--state", str(tmp_path / "none"))
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    as_json = command(*arguments, "--state", str(tmp_path / "none"), "--json")
    assert json.loads(as_json.stderr)["exit"] == code


def test_help_has_an_example() -> None:
    for name in ("join", "run", "status"):
        assert "Example: gloam-gateway" in command(name, "--help").stdout


async def test_a_gateway_process_runs_says_how_it_is_and_stops_on_sigterm(
    controller: Any, state: Path, lease: Lease, eventually: Any
) -> None:
    controller.leases.append(lease)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.cli", "run", "--state", str(state), stderr=asyncio.subprocess.PIPE
    )
    try:
        lines = []
        async with asyncio.timeout(60):
            while not lines or " ready " not in lines[-1]:
                line = (await process.stderr.readline()).decode()
                assert line, "".join(lines)
                lines.append(line)
        shown = await asyncio.to_thread(command, "status", "--state", str(state))
        assert shown.returncode == 0, shown.stderr
        assert "gateway edge of example.test: ready" in shown.stdout
        assert "alice" in shown.stdout
        document = json.loads((await asyncio.to_thread(command, "status", "--state", str(state), "--json")).stdout)
        assert document["certificate"]["name"] == str(EDGE)
    finally:
        process.terminate()
        async with asyncio.timeout(60):
            rest = await process.stderr.read()
            assert await process.wait() == 0, rest.decode()
    assert b"drained" in rest
    process._transport.close()
