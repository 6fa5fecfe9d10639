"""Control connections that say what is not in the protocol: each ends, is audited, and the controller works on.

Everybody here is who he says he is: a device with a live session, a gateway that has joined, the holder of an invite.
"""

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import uuid4

import aiohttp
import psutil
from aiohttp import WSMsgType

from certs.issue import make_csr, new_private_key
from certs.names import Name, NameKind
from lab.addresses import KNOCK_PORT, TLS_PORT
from lab.visitor import fetch
from spa.packet import KnockKind, derive_key
from spa.sender import knock_and_connect
from tests.scenarios.intruder import (
    SECONDS,
    Intruder,
    Server,
    Watch,
    controller_of,
    read_to_end,
    spoken,
    untroubled,
    wall_us,
)
from wire.http import connector
from wire.invite import Invite, invite_knock_secret, parse_invite
from wire.limits import ALPN_HTTP
from wire.tls import ClientTls

PROTOCOL_ERROR = frozenset({1002})
TOO_BIG = frozenset({1009, 1006})  # what is still on its way of a message too big may destroy the goodbye (1006: none)
BODY_LIMIT = 65_536
DEEP = "[" * 15_000
CSR = make_csr(new_private_key()).decode()


# --- WebSockets --------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def websocket(intruder: Intruder, server: Server, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    tls = ClientTls(intruder.identity, intruder.trust, server.name, alpn=(ALPN_HTTP,))
    async with (
        aiohttp.ClientSession(connector=connector(partial(intruder.connect, server), tls)) as session,
        session.ws_connect(f"https://main{path}", compress=0, max_msg_size=1 << 22) as opened,
    ):
        yield opened


async def close_code(opened: aiohttp.ClientWebSocketResponse) -> int | None:
    """What the controller closes the WebSocket with; whatever it says before is passed over."""
    async with asyncio.timeout(SECONDS):
        while (await opened.receive()).type in {WSMsgType.TEXT, WSMsgType.BINARY}:
            pass
    return opened.close_code


async def say(opened: aiohttp.ClientWebSocketResponse, message: object) -> None:
    """JSON for a dict, text as it is, bytes as a binary message."""
    match message:
        case bytes():
            await opened.send_bytes(message)
        case str():
            await opened.send_str(message)
        case _:
            await opened.send_json(message)


def client_abuses(session: str) -> dict[str, tuple[list[object], frozenset[int]]]:
    """What a device says on the WebSocket of its session, and the code it is closed with."""
    attach = {"type": "attach", "session": session}
    return {
        "no attach first": ([{"type": "heartbeat"}], PROTOCOL_ERROR),
        "attach with another field": ([{**attach, "admin": True}], PROTOCOL_ERROR),
        "attach without its session": ([{"type": "attach"}], PROTOCOL_ERROR),
        "attach twice": ([attach, attach], PROTOCOL_ERROR),
        "an unknown type": ([attach, {"type": "promote", "user": "alice"}], PROTOCOL_ERROR),
        "no type": ([attach, {"session": session}], PROTOCOL_ERROR),
        "a type of the controller's": ([attach, {"type": "revoked", "code": "x", "sentence": "x"}], PROTOCOL_ERROR),
        "a heartbeat with another field": ([attach, {"type": "heartbeat", "risk": 0}], PROTOCOL_ERROR),
        "a resource that is no name": ([attach, {"type": "explain", "resource": "../wiki"}], PROTOCOL_ERROR),
        "a renewal that is no request": ([attach, {"type": "renew", "csr": "no"}], PROTOCOL_ERROR),
        "a renewal with a huge request": ([attach, {"type": "renew", "csr": "A" * 9_000}], PROTOCOL_ERROR),
        "not JSON": ([attach, "hello"], PROTOCOL_ERROR),
        "a list": ([attach, "[]"], PROTOCOL_ERROR),
        "a deep list": ([attach, DEEP], PROTOCOL_ERROR),
        "binary": ([attach, b"\0\1\2"], PROTOCOL_ERROR),
        "too much": ([attach, {"type": "explain", "resource": "a" * 100_000}], TOO_BIG),
        "too much before attach": (["x" * 100_000], TOO_BIG),
    }


async def test_a_device_that_does_not_keep_to_the_protocol_is_disconnected(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    controller = controller_of(perimeter)
    intruder = Intruder.with_client(perimeter, alice)
    psutil.Process((await alice.json("status"))["agent"]).kill()  # one connection a session: this one is ours now
    device = intruder.identity.name.id
    async with Watch.on(perimeter) as watch:
        for what, (messages, code) in client_abuses(str(intruder.session_id)).items():
            async with websocket(intruder, controller, "/v1/session") as opened:
                for message in messages:
                    await say(opened, message)
                assert await close_code(opened) in code, what
            event = await watch.until("client.protocol_error", device=device)
            assert event["detail"], what
            assert event["source"] == intruder.source, what
            watch.take()
        async with websocket(intruder, controller, "/v1/session") as opened:  # the same, as it should be
            await say(opened, {"type": "attach", "session": str(intruder.session_id)})
            assert (await opened.receive_json(timeout=SECONDS))["type"] == "session"
            await say(opened, {"type": "heartbeat"})
            assert (await opened.receive_json(timeout=SECONDS))["type"] == "beat"
        assert len(await perimeter.admin_json("session", "list")) == 1  # nobody's session was harmed
    untroubled(perimeter.processes["controller"].log)


def reports(*each: object) -> dict[str, object]:
    return {"type": "reports", "reports": each}


def gateway_abuses(session: str) -> dict[str, tuple[list[object], frozenset[int]]]:
    """What a gateway says on its link, and the code it is closed with."""
    hello = {"type": "hello", "version": "1", "cloak": "auto"}
    at = "2026-01-01T00:00:00Z"
    where = {"host": "192.0.2.1", "port": 1}
    closed = {
        "type": "tunnel.closed", "tunnel": str(uuid4()), "session": session, "resource": "wiki",
        "bytes_up": 1, "bytes_down": 1, "seconds": 1, "reason": "done", "at": at,
    }  # fmt: skip
    refused = {"type": "handshake.refused", "source": where, "code": "x", "detail": "", "at": at}
    return {
        "no hello first": ([{"type": "ack", "seq": 0}], PROTOCOL_ERROR),
        "hello with another field": ([{**hello, "name": "edge"}], PROTOCOL_ERROR),
        "hello twice": ([hello, hello], PROTOCOL_ERROR),
        "hello with a negative number": ([{**hello, "seq": -1}], PROTOCOL_ERROR),
        "an unknown type": ([hello, {"type": "lease.put", "seq": 1}], PROTOCOL_ERROR),
        "no type": ([hello, {"seq": 1}], PROTOCOL_ERROR),
        "acknowledging what was never sent": ([hello, {"type": "ack", "seq": 1_000_000}], PROTOCOL_ERROR),
        "an acknowledgement with another field": ([hello, {"type": "ack", "seq": 0, "x": 1}], PROTOCOL_ERROR),
        "a report by itself": ([hello, closed], PROTOCOL_ERROR),
        "no reports": ([hello, reports()], PROTOCOL_ERROR),
        "more reports than eight": ([hello, reports(*[closed] * 9)], PROTOCOL_ERROR),
        "a report of reports": ([hello, reports(reports(closed))], PROTOCOL_ERROR),
        "less than nothing through a tunnel": ([hello, reports({**closed, "bytes_up": -1})], PROTOCOL_ERROR),
        "a time that is none": ([hello, reports({**closed, "at": "yesterday"})], PROTOCOL_ERROR),
        "seconds that are no number": ([hello, json.dumps(reports({**closed, "seconds": math.nan}))], PROTOCOL_ERROR),
        "endless seconds": ([hello, json.dumps(reports({**closed, "seconds": math.inf}))], PROTOCOL_ERROR),
        "a number without end": ([hello, json.dumps(reports({**closed, "bytes_up": 10**4000}))], PROTOCOL_ERROR),
        "more bytes than a database counts": ([hello, reports({**closed, "bytes_up": 2**64})], PROTOCOL_ERROR),
        "a source that is no address": ([hello, reports({**refused, "source": where | {"port": 0}})], PROTOCOL_ERROR),
        "not JSON": ([hello, "hello"], PROTOCOL_ERROR),
        "a deep list": ([hello, DEEP], PROTOCOL_ERROR),
        "binary": ([hello, b"\0"], PROTOCOL_ERROR),
        "too much": ([hello, {"type": "ack", "seq": 0, "x": "x" * 200_000}], TOO_BIG),
        "too much before hello": (["x" * 200_000], TOO_BIG),
    }


async def test_a_gateway_that_does_not_keep_to_the_protocol_is_disconnected(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    await perimeter.add_gateway("spare", start=False)  # joined, and never run: its link is ours
    controller = controller_of(perimeter)
    intruder = Intruder.with_gateway(perimeter, "spare")
    async with Watch.on(perimeter) as watch:
        for what, (messages, code) in gateway_abuses(str(uuid4())).items():
            async with websocket(intruder, controller, "/v1/link") as opened:
                for message in messages:
                    await say(opened, message)
                assert await close_code(opened) in code, what
            event = await watch.until("link.protocol_error", gateway="spare")
            assert event["detail"], what
            assert event["source"] == intruder.source, what
            watch.take()
        await told_lies(watch, intruder, controller)
    assert (await perimeter.admin_json("status"))["gateways"]["edge"] == "up"
    forward, host, port = await alice.forward("wiki")
    assert (await fetch(host, port))[0] == 200  # the honest gateway's link was none of this
    await forward.stop()
    untroubled(perimeter.processes["controller"].log)


async def told_lies(watch: Watch, intruder: Intruder, controller: Server) -> None:
    """A report of a session nobody has is written down as what it is: this gateway's word about nobody."""
    async with websocket(intruder, controller, "/v1/link") as opened:
        await say(opened, {"type": "hello", "version": "1", "cloak": "auto"})
        assert [(await opened.receive_json(timeout=SECONDS))["type"] for _ in range(2)] == ["welcome", "snapshot"]
        await say(opened, reports({
            "type": "tunnel.opened", "tunnel": str(uuid4()), "session": str(uuid4()), "resource": "payroll",
            "source": {"host": "192.0.2.1", "port": 1}, "target": {"host": "192.0.2.2", "port": 1},
            "group": "X25519", "at": "2026-01-01T00:00:00Z",
        }))  # fmt: skip
        event = await watch.until("tunnel.opened", resource="payroll")
        assert (event["gateway"], event["user"], event["policies"]) == ("spare", "", [])


# --- HTTP bodies -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A request as bytes of our own, the status it must be answered with, and the event the audit log must have."""

    what: str
    data: bytes
    status: int
    event: str = "client.protocol_error"


def post(path: str, body: object, *fields: str, method: str = "POST") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: main", "Connection: close", "Content-Type: application/json"]
    if not any(each.lower().startswith(("content-length", "transfer-encoding")) for each in fields):
        lines.append(f"Content-Length: {len(content)}")
    return "\r\n".join([*lines, *fields, "", ""]).encode() + content


def bodies(path: str, good: dict[str, Any]) -> list[Asked]:
    """Bodies that are not quite `good`."""
    return [
        Asked("nothing", post(path, b""), 422),
        Asked("not JSON", post(path, b"user=alice"), 422),
        Asked("not UTF-8", post(path, b'{"user":"\xff\xfe"}'), 422),
        Asked("a list", post(path, []), 422),
        Asked("deep", post(path, DEEP.encode()), 422),
        Asked("another field", post(path, {**good, "groups": ["admins"]}), 422),
        Asked("a field twice over", post(path, {**good, "type": "login"}), 422),
        Asked("without its request", post(path, {key: value for key, value in good.items() if key != "csr"}), 422),
        Asked("a huge request", post(path, {**good, "csr": "A" * 20_000}), 422),
        Asked("numbers for texts", post(path, dict.fromkeys(good, 1)), 422),
        Asked("too large", post(path, {**good, "csr": "A" * (BODY_LIMIT + 1)}), 413),
        Asked("too large in chunks", post(path, chunked(b"A" * (BODY_LIMIT + 1)), "Transfer-Encoding: chunked"), 413),
    ]


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)


def not_http(path: str) -> list[bytes]:
    """Requests that no server should make anything of."""
    return [
        b"\x16\x03\x01\x02\x00hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: main\r\n\r\n",
        post(path, b"{}", "Content-Length: 2", "Content-Length: 20"),
        post(path, b"0\r\n\r\n", "Content-Length: 5", "Transfer-Encoding: chunked"),
        post(path, b"zz\r\n", "Transfer-Encoding: chunked"),
        b"POST " + path.encode() + b" HTTP/1.1\r\nHost: main\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"\0" * 70_000,
    ]


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def refusal_of(answer: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return document


async def test_login_bodies_and_requests_of_a_device(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    controller = controller_of(perimeter)
    intruder = Intruder.with_client(perimeter, alice)
    good = {"user": "alice", "proofs": [{"type": "password", "password": "wrong"}], "csr": CSR}
    others = [
        Asked("a path nobody serves", post("/v1/admin", {}), 404, ""),
        Asked("a path of its own kind", post("/v1/../v1/login", {}), 404, ""),
        Asked("another method", post("/v1/login", {}, method="PUT"), 405, ""),
        Asked("a gateway's route", post("/v1/link", b"", method="GET"), 403, "handshake.refused"),
        Asked("an invitee's route", post("/v1/enrol", {}), 403, "handshake.refused"),
    ]
    async with Watch.on(perimeter) as watch:

        async def ask(data: bytes) -> bytes:
            async with intruder.speak(controller) as (reader, writer):
                writer.write(data)
                return await read_to_end(reader)

        for asked in [*bodies("/v1/login", good), *others]:
            answer = await ask(asked.data)
            assert status_of(answer) == asked.status, f"{asked.what}: {answer!r}"
            assert refusal_of(answer).keys() == {"code", "sentence", "fix"}, asked.what
            if asked.event:
                event = await watch.until(asked.event)
                assert (event["source"], bool(event["detail"])) == (intruder.source, True), asked.what
            watch.take()
        for data in not_http("/v1/login"):
            assert status_of(await ask(data)) in {0, 400, 413, 431}, data[:200]
        answer = await ask(post("/v1/login", good))  # heard: it is the password that is wrong
        assert (status_of(answer), refusal_of(answer)["status"]) == (200, "refused")
        await watch.until("login.refused", user="alice", source=intruder.source)
    assert len(await perimeter.admin_json("session", "list")) == 1
    untroubled(perimeter.processes["controller"].log)


async def knock_with_invite(invite: Invite, source: str) -> socket.socket:
    address = invite.controllers[0]
    name = Name(invite.domain, NameKind.CONTROLLER, address.name)
    return await knock_and_connect(
        knock_to=(address.knock.host, KNOCK_PORT),
        connect_to=(address.tls.host, TLS_PORT),
        key=derive_key(invite_knock_secret(invite.secret), name),
        kind=KnockKind.ENROL,
        clock=wall_us,
        deadline=SECONDS,
        local_addr=(source, 0),
    )


async def test_enrolment_bodies_of_an_invitee(stage: Any) -> None:
    perimeter = stage.perimeter
    await perimeter.add_user("bob")
    text = (await perimeter.admin_json("invite", "bob"))["invite"]
    invite = parse_invite(text)
    source = perimeter.block.address(240)
    tls = ClientTls.pinned(invite.root_spki_sha256, Name(invite.domain, NameKind.CONTROLLER, "main"))
    good = {"invite": str(invite.id), "proof": "A" * 43, "csr": CSR, "device_name": "x", "platform": "x"}
    others = [
        Asked("a proof of nothing", post("/v1/enrol", good), 403, "invite.refused"),
        Asked("another's invite", post("/v1/enrol", {**good, "invite": str(uuid4())}), 403, "invite.refused"),
        Asked("a device's route", post("/v1/login", {}), 403, "handshake.refused"),
        Asked("a gateway's route", post("/v1/link", b"", method="GET"), 403, "handshake.refused"),
    ]
    async with Watch.on(perimeter) as watch:

        async def ask(data: bytes) -> bytes:
            async with spoken(partial(knock_with_invite, invite, source), tls) as (reader, writer):
                writer.write(data)
                return await read_to_end(reader)

        for asked in [*bodies("/v1/enrol", good), *others]:
            answer = await ask(asked.data)
            assert status_of(answer) == asked.status, f"{asked.what}: {answer!r}"
            assert refusal_of(answer).keys() == {"code", "sentence", "fix"}, asked.what
            assert (await watch.until(asked.event))["source"] == source, asked.what
            watch.take()
        for data in not_http("/v1/enrol"):
            assert status_of(await ask(data)) in {0, 400, 413, 431}, data[:200]
    bob = await perimeter.add_client("bob", enrol=False)
    await bob.json("enrol", text)  # none of it used the invite up
    untroubled(perimeter.processes["controller"].log)
