"""The WebSocket of a live session."""

import asyncio
import hashlib
from uuid import uuid4

import aiohttp
import pytest

from certs import make_csr, new_private_key
from controller.api import socket as api_socket
from controller.errors import StorageUnavailable
from tests.controller.perimeter import Machine
from tests.controller.served import Edge, Served
from wire.messages import (
    Attach,
    Beat,
    Explained,
    ExplainRequest,
    Heartbeat,
    Logout,
    Message,
    Renew,
    Revoked,
    Session,
    SessionView,
    ToClient,
    TrustUpdate,
    decode,
    to_client,
)

Online = tuple[Machine, SessionView, aiohttp.ClientSession]


@pytest.fixture
async def online(served: Served, edge: Edge) -> Online:
    """Alice's device, logged in, and its client's connections."""
    perimeter = served.perimeter
    alice = await perimeter.add_user("alice")
    wiki = await perimeter.add_resource("wiki", perimeter.directory.current.gateways["edge"].id)
    await perimeter.add_grant(alice, wiki)
    machine = await perimeter.enrol("alice")
    view = await perimeter.log_in(machine)
    return machine, view, served.client(machine.identity)


async def say(socket: aiohttp.ClientWebSocketResponse, message: Message) -> None:
    await socket.send_str(message.model_dump_json())


async def hear(socket: aiohttp.ClientWebSocketResponse) -> ToClient | aiohttp.WSMessage:
    received = await socket.receive(timeout=60)
    return decode(to_client, received.data) if received.type is aiohttp.WSMsgType.TEXT else received


async def attached(online: Online) -> aiohttp.ClientWebSocketResponse:
    _, view, client = online
    socket = await client.ws_connect("/v1/session")
    await say(socket, Attach(session=view.id))
    assert isinstance(await hear(socket), Session)
    return socket


@pytest.mark.parametrize("held", [True, False])
async def test_who_holds_another_trust_is_told_before_anything_else(
    served: Served,
    online: Online,
    held: bool,  # noqa: FBT001 - pytest's way
) -> None:
    _, view, client = online
    trust = served.perimeter.trust()
    socket = await client.ws_connect("/v1/session")
    digest = hashlib.sha256(trust.encode() if held else b"another").digest()
    await say(socket, Attach(session=view.id, trust=digest))
    if not held:
        assert await hear(socket) == TrustUpdate(trust=trust)
    assert isinstance(await hear(socket), Session)
    served.perimeter.sessions.tell(TrustUpdate(trust=trust))
    assert await hear(socket) == TrustUpdate(trust=trust)


async def test_attach_heartbeat_explain_renew_logout(served: Served, edge: Edge, online: Online) -> None:
    _, view, _ = online
    socket = await attached(online)
    await say(socket, Heartbeat())
    assert isinstance(await hear(socket), Beat)
    await say(socket, ExplainRequest(resource="wiki"))
    told = await hear(socket)
    assert isinstance(told, Explained)
    assert told.resource.allowed
    served.perimeter.clock.pass_(minutes=5)
    await say(socket, Renew(csr=make_csr(new_private_key()).decode()))
    renewed = await hear(socket)
    assert isinstance(renewed, Session)
    assert renewed.session.certificate
    assert renewed.session.valid_until > view.valid_until
    assert edge.leases[view.id].valid_until == renewed.session.valid_until
    await say(socket, Logout())
    over = await hear(socket)
    assert isinstance(over, Revoked)
    assert over.code == "logout"
    assert (await hear(socket)).type is aiohttp.WSMsgType.CLOSE
    assert len(await served.perimeter.events("session.ended")) == 1
    assert view.id not in edge.leases
    assert await served.perimeter.events("client.protocol_error") == []


async def test_a_revoked_session_is_told_and_closed(served: Served, online: Online) -> None:
    machine, _, _ = online
    socket = await attached(online)
    await served.perimeter.devices.revoke(machine.id, actor="admin")
    over = await hear(socket)
    assert isinstance(over, Revoked)
    assert over.code == "device_revoked"
    assert (await hear(socket)).type is aiohttp.WSMsgType.CLOSE


async def test_changes_are_told(served: Served, online: Online) -> None:
    socket = await attached(online)
    alice = served.perimeter.directory.current.names["alice"]
    vault = await served.perimeter.add_resource("vault", served.perimeter.directory.current.gateways["edge"].id)
    await served.perimeter.add_grant(alice, vault)
    await served.perimeter.sessions.reevaluate()
    message = await hear(socket)
    assert [each.name for each in message.session.resources] == ["vault", "wiki"]


async def test_a_newer_connection_takes_over(online: Online) -> None:
    older = await attached(online)
    newer = await attached(online)
    closed = await hear(older)
    assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, api_socket.REPLACED)
    await say(newer, Heartbeat())
    assert isinstance(await hear(newer), Beat)


@pytest.mark.parametrize("session", ["unknown", "others"])
async def test_only_ones_own_session_can_be_attached(served: Served, online: Online, session: str) -> None:
    _, view, _ = online
    other = await served.perimeter.enrol("alice")
    identifier = view.id if session == "others" else uuid4()
    socket = await served.client(other.identity).ws_connect("/v1/session")
    await say(socket, Attach(session=identifier))
    answer = await hear(socket)
    assert isinstance(answer, Revoked)
    assert answer.code == "session_unknown"


@pytest.mark.parametrize(
    ("name", "text", "attach"),
    [
        ("not JSON", "nonsense", True),
        ("unknown type", '{"type": "nonsense"}', True),
        ("unknown field", '{"type": "heartbeat", "extra": 1}', True),
        ("a second attach", "ATTACH", True),
        ("something before attach", '{"type": "heartbeat"}', False),
        ("binary", b"{}", True),
        ("too long", '{"type": "renew", "csr": "' + "x" * 20_000 + '"}', True),
        ("a bad request to sign", '{"type": "renew", "csr": "x"}', True),
    ],
)
async def test_what_is_not_in_the_protocol_ends_the_connection(
    served: Served,
    online: Online,
    name: str,
    text: str | bytes,
    attach: bool,  # noqa: FBT001
) -> None:
    machine, view, client = online
    socket = await attached(online) if attach else await client.ws_connect("/v1/session")
    if isinstance(text, bytes):
        await socket.send_bytes(text)
    else:
        await socket.send_str(Attach(session=view.id).model_dump_json() if text == "ATTACH" else text)
    closed = await hear(socket)
    assert closed.type is aiohttp.WSMsgType.CLOSE
    assert closed.data in {api_socket.PROTOCOL_ERROR, 1009}
    async with asyncio.timeout(60):
        while not (events := await served.perimeter.events("client.protocol_error")):
            pass  # aiohttp closes what is too long by itself, before we hear of it
    assert [event.device for event in events] == [machine.id]
    assert [each.id for each in served.perimeter.sessions.live()] == [view.id], "the session is not the connection"


async def test_silence_instead_of_attach(served: Served, online: Online, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_socket, "ATTACH_DEADLINE", 0.05)
    _, _, client = online
    socket = await client.ws_connect("/v1/session")
    assert (await hear(socket)).data == api_socket.PROTOCOL_ERROR


async def test_too_much_at_once(online: Online) -> None:
    socket = await attached(online)
    for _ in range(api_socket.BURST + 10):
        await say(socket, Heartbeat())
    while not isinstance(message := await hear(socket), aiohttp.WSMessage):
        assert isinstance(message, Beat)
    assert message.data == api_socket.OVERLOADED


async def test_without_a_database_the_client_is_asked_to_come_again(served: Served, online: Online) -> None:
    socket = await attached(online)

    def broken() -> None:
        raise StorageUnavailable("the database is away")

    served.perimeter.sessions._storage = type("Away", (), {"change": staticmethod(broken)})()
    await say(socket, Renew(csr=make_csr(new_private_key()).decode()))
    assert (await hear(socket)).data == api_socket.TRY_AGAIN


async def test_a_device_opens_a_few_sockets_and_no_more(online: Online) -> None:
    _, _, client = online
    sockets = [await client.ws_connect("/v1/session") for _ in range(8)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await client.ws_connect("/v1/session")
    assert caught.value.status == 429
    for socket in sockets:
        await socket.close()


async def test_a_lost_connection_leaves_the_session(served: Served, online: Online) -> None:
    _, view, _ = online
    socket = await attached(online)
    await socket.close()
    again = await attached(online)
    assert [each.id for each in served.perimeter.sessions.live()] == [view.id]
    await again.close()
