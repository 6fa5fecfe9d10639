"""The controller's end of the link against a peer that says what it likes, over real TLS."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from certs import (
    Identity,
    Name,
    NameKind,
    Purpose,
    Trust,
    issue_intermediate,
    issue_leaf,
    issue_root,
    make_csr,
    new_private_key,
    private_key_pem,
)
from controller.gateways.conversation import MAX_MESSAGE
from controller.gateways.link import Links
from wire.http import HttpsServer, connector
from wire.limits import ALPN_HTTP
from wire.messages import (
    REPORTS_AT_ONCE,
    Acknowledged,
    Address,
    Hello,
    KnockRefused,
    Lease,
    Permit,
    Ping,
    Reported,
    ServedResource,
    Snapshot,
    TunnelClosed,
    TunnelOpened,
    TunnelRefused,
    Welcome,
    decode,
    to_gateway,
)
from wire.tls import ClientTls, ServerTls

DOMAIN = "example.test"
HELLO = Hello(version="0.1.0", cloak="on-demand").model_dump_json()
SESSION, DEVICE, TUNNEL = UUID(int=7), UUID(int=1), UUID(int=2)
AT = datetime(2026, 1, 1, tzinfo=UTC)
HERE = Address(host="192.0.2.1", port=4242)


def lease() -> Lease:
    return Lease(
        session=SESSION,
        device=DEVICE,
        user="alice",
        knock_keys=(bytes(64),),
        permits=(
            Permit(
                resource="wiki",
                port=80,
                target=Address(host="10.0.0.1", port=8080),
                protocol="tcp",
                policies=("grant/1",),
            ),
        ),
        valid_until=datetime.now(UTC) + timedelta(minutes=10),
        policy_revision=1,
    )


class Controller:
    def __init__(self, ping: float) -> None:
        now = datetime.now(UTC)
        root = issue_root(DOMAIN, now=now)
        self.issuers = {purpose: issue_intermediate(root, purpose, DOMAIN, now=now) for purpose in Purpose}
        self.trust = Trust.of(root.certificate, [one.certificate for one in self.issuers.values()])
        self.notes = []
        self.leases = ()
        self.known = {"edge"}
        self.links = Links(
            served_by=lambda gateway: (ServedResource(name="wiki", port=80),) if gateway in self.known else None,
            trust=lambda: self.trust.to_pem().decode(),
            note=self.notes.append,
            outage_grace=timedelta(seconds=60),
            ping=timedelta(seconds=ping),
            leases_for=self.leases_for,
        )

    async def leases_for(self, gateway: Any) -> Any:
        return self.leases

    def identity(self, kind: NameKind, id_: Any) -> Any:
        key, name = new_private_key(), Name(DOMAIN, kind, id_)
        issuer = self.issuers[name.purpose]
        leaf = issue_leaf(issuer, make_csr(key), name, now=datetime.now(UTC), lifetime=timedelta(hours=1))
        return Identity(private_key_pem(key), (leaf, issuer.certificate))

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/v1/link", self._handle)
        accept = frozenset({Purpose.SERVICES, Purpose.DEVICES})
        tls = ServerTls(self.identity(NameKind.CONTROLLER, "main"), self.trust, accept, alpn=(ALPN_HTTP,))
        self.server = HttpsServer(app, tls)
        await self.server.start()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)  # noqa: FBT003
        self.accepting = asyncio.create_task(self._accept())

    async def _handle(self, request: Any) -> Any:
        return await self.links.handle(request)

    async def _accept(self) -> None:
        while True:
            sock, _ = await asyncio.get_running_loop().sock_accept(self.listener)
            self.server.accept(sock)

    async def stop(self) -> None:
        self.accepting.cancel()
        await asyncio.wait([self.accepting])
        self.listener.close()
        await self.links.close()
        await self.server.close()

    @asynccontextmanager
    async def connect(self, kind: NameKind = NameKind.GATEWAY, id_: Any = "edge") -> AsyncIterator[Any]:
        async def dial() -> Any:
            sock = socket.socket()
            sock.setblocking(False)  # noqa: FBT003
            await asyncio.get_running_loop().sock_connect(sock, self.listener.getsockname())
            return sock

        tls = ClientTls(
            self.identity(kind, id_), self.trust, Name(DOMAIN, NameKind.CONTROLLER, "main"), alpn=(ALPN_HTTP,)
        )
        async with (
            aiohttp.ClientSession(connector=connector(dial, tls)) as session,
            session.ws_connect("https://main/v1/link", timeout=aiohttp.ClientWSTimeout(ws_close=0.5)) as websocket,
        ):
            yield websocket

    def told(self, kind: NameKind) -> Any:
        return [each for each in self.notes if each.kind == kind]


@pytest.fixture
async def controller(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """Its pings are so rare that no late machine looks like a silent gateway, but for tests that are about them."""
    made = Controller(getattr(request, "param", 5.0))
    await made.start()
    yield made
    await made.stop()


async def say_hello(link: Any, text: Any = HELLO) -> Any:
    await link.send_str(text)
    return await heard(link), await heard(link)


async def heard(link: Any) -> Any:
    """The next message but for pings, which come whenever a moment was quiet."""
    while isinstance(message := await heard_at_all(link), Ping):
        pass
    return message


async def heard_at_all(link: Any) -> Any:
    return decode(to_gateway, await link.receive_str(timeout=60))


async def until_closed(link: Any) -> Any:
    while (message := await link.receive(timeout=60)).type is WSMsgType.TEXT:
        pass
    return message


async def test_welcome_then_everything(controller: Any) -> None:
    controller.leases = (lease(),)
    async with controller.connect() as link:
        welcome, snapshot = await say_hello(link)
        assert isinstance(welcome, Welcome)
        assert (welcome.gateway, welcome.outage_grace_seconds) == ("edge", 60)
        assert isinstance(snapshot, Snapshot)
        assert snapshot.leases == controller.leases
        assert snapshot.resources == (ServedResource(name="wiki", port=80),)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('{"type":"takeover"}', None),
        ("not json", None),
        ("[]", None),
        ('{"type":"ack","seq":0}', None),
        (HELLO[:-1] + ',"admin":true}', None),
        (HELLO, HELLO),
        (HELLO, '{"type":"takeover"}'),
        (HELLO, '{"type":"ack","seq":1}'),
        (HELLO, '{"type":"ack","seq":0,"also":1}'),
        (HELLO, '{"type":"ack","seq":-1}'),
        (HELLO, "x" * 70_000),
        (HELLO, b"binary"),
    ],
    ids=range(12),
)
async def test_what_is_not_in_the_protocol_ends_the_link_and_is_audited(
    controller: Any, first: Any, second: Any
) -> None:
    async with controller.connect() as link:
        await link.send_str(first)
        if second is not None:
            await (link.send_bytes(second) if isinstance(second, bytes) else link.send_str(second))
        await until_closed(link)
        # 1006: what we had not read of a message that is too large resets the connection under our close frame.
        assert link.close_code in {1002, 1009, 1006}
    async with asyncio.timeout(60):
        while not (errors := controller.told("link.protocol_error")):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert [each.gateway for each in errors] == ["edge"]
    assert controller.links.connected() == {}


@pytest.mark.parametrize("controller", [0.1], indirect=True)
async def test_a_silent_gateway_is_dead(controller: Any) -> None:
    async with controller.connect() as link:
        await say_hello(link)
        await until_closed(link)
    assert [each.code for each in controller.told("link.closed")] == ["silent"]


@pytest.mark.parametrize("controller", [0.4], indirect=True)
async def test_answered_pings_keep_the_link(controller: Any) -> None:
    async with controller.connect() as link:
        await say_hello(link)
        for _ in range(4):  # more silence than a link without pings would survive
            assert isinstance(await heard_at_all(link), Ping)
            await link.send_str(Acknowledged(seq=0).model_dump_json())
        assert list(controller.links.connected()) == ["edge"]


@pytest.mark.parametrize(
    ("kind", "id_", "status"), [(NameKind.DEVICE, str(DEVICE), 403), (NameKind.GATEWAY, "stranger", 403)]
)
async def test_only_gateways_of_the_perimeter_have_links(
    controller: Any, kind: NameKind, id_: Any, status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with controller.connect(kind, id_):
            pass
    assert refused.value.status == status


async def test_before_there_are_sessions_gateways_are_asked_to_come_back(controller: Any) -> None:
    controller.links.leases_for = None
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with controller.connect():
            pass
    assert refused.value.status == 503


async def test_reports_are_audited_with_the_names_this_controller_knows(controller: Any) -> None:
    controller.leases = (lease(),)
    reports = (
        TunnelOpened(
            tunnel=TUNNEL,
            session=SESSION,
            resource="wiki",
            source=HERE,
            target=Address(host="10.0.0.1", port=8080),
            group="X25519MLKEM768",
            at=AT,
        ),
        TunnelClosed(
            tunnel=TUNNEL,
            session=SESSION,
            resource="wiki",
            bytes_up=1,
            bytes_down=2,
            seconds=3.0,
            reason="done",
            at=AT,
        ),
        TunnelClosed(
            tunnel=UUID(int=99),
            session=UUID(int=98),
            resource="old",
            bytes_up=0,
            bytes_down=0,
            seconds=0,
            reason="done",
            at=AT,
        ),
        TunnelRefused(session=SESSION, resource="vault", source=HERE, status=403, code="no_grant", at=AT),
        TunnelRefused(session=None, resource="vault", source=HERE, status=403, code="no_lease", at=AT),
    )
    async with controller.connect() as link:
        await say_hello(link)
        for batch in (reports[:2], reports[2:]):
            await link.send_str(Reported(reports=batch).model_dump_json())
        while len(controller.notes) < 1 + len(reports):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    opened, closed, unknown, refused, nobody = controller.notes[1:6]
    for event in (opened, closed):
        assert (event.user, event.device, event.policies) == ("alice", DEVICE, ("grant/1",))
        assert (event.source, event.target) == ("192.0.2.1:4242", "10.0.0.1:8080")
    assert (closed.bytes_up, closed.bytes_down, closed.code) == (1, 2, "done")
    assert (unknown.user, unknown.device) == ("", None)
    assert (refused.user, refused.device) == ("alice", DEVICE)
    assert (nobody.user, nobody.session) == ("", None)


async def test_as_many_of_the_longest_reports_as_a_message_may_hold_are_taken(controller: Any) -> None:
    longest = KnockRefused(key_id="\x01" * 1024, source="\x01" * 1024, code="c" * 64, count=2**53, at=AT)
    message = Reported(reports=(longest,) * REPORTS_AT_ONCE).model_dump_json()
    assert len(message.encode()) <= MAX_MESSAGE
    async with controller.connect() as link:
        await say_hello(link)
        await link.send_str(message)
        while len(controller.notes) < 1 + REPORTS_AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_change_that_may_not_be_in_the_snapshot_follows_it(controller: Any) -> None:
    """The session is put before whoever asked has written it down: the snapshot misses it, the link does not."""
    putting = asyncio.create_task(controller.links.put({"edge": lease()}, timeout=60))
    async with controller.connect() as link:
        await link.send_str(HELLO)
        await heard(link)
        # The first put found no link and gave up at once; this one is in flight while the snapshot is taken.
        assert await putting == {"edge"}
        snapshot = await heard(link)
        again = asyncio.create_task(controller.links.put({"edge": lease()}, timeout=60))
        change = await heard(link)
        assert (snapshot.seq, change.seq) == (1, 2)
        await link.send_str(Acknowledged(seq=2).model_dump_json())
        assert await again == set()


async def test_a_snapshot_leaves_out_what_is_in_flight(controller: Any) -> None:
    release = asyncio.Event()

    async def slow(gateway: Any) -> Any:
        await release.wait()
        return ()

    controller.links.leases_for = slow
    async with controller.connect() as link:
        await link.send_str(HELLO)
        await heard(link)
        while not controller.links.connected():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        putting = asyncio.create_task(controller.links.put({"edge": lease()}, timeout=60))
        await asyncio.sleep(0)  # `put` queues before it waits
        release.set()
        snapshot, change = await heard(link), await heard(link)
        assert (snapshot.seq, snapshot.leases, change.seq) == (0, (), 1)
        await link.send_str(Acknowledged(seq=1).model_dump_json())
        assert await putting == set()


async def test_a_resumed_link_counts_as_acknowledged_what_it_says_it_has_applied(controller: Any) -> None:
    async with controller.connect() as link:
        _, snapshot = await say_hello(link)
        putting = asyncio.create_task(controller.links.put({"edge": lease()}, timeout=60))
        await heard(link)
    # The acknowledgement was lost with the connection.
    hello = Hello(stream=snapshot.stream, seq=1, version="0.1.0", cloak="on-demand")
    async with controller.connect() as link:
        _, resumed = await say_hello(link, hello.model_dump_json())
        assert (resumed.type, resumed.seq) == ("resumed", 1)
        assert await putting == set()


async def test_a_stopping_controller_says_so(controller: Any) -> None:
    async with controller.connect() as link:
        await say_hello(link)
        closing = asyncio.create_task(controller.links.close())
        await until_closed(link)
        assert link.close_code == 1001
        await closing
