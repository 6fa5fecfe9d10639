import asyncio
import contextlib
import hashlib
import io
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from certs import Name
from tests.wire.harness import DEVICE, DOMAIN, GATEWAY, SESSION, Recorder, Wire
from wire import limits
from wire.errors import LocalError, TlsRefused
from wire.http import HttpsServer, connector, refusal_in
from wire.tls import ClientTls, connect_tls

URL = "https://gateway"


async def who(request: web.Request) -> web.Response:
    assert request.transport is not None
    assert request.secure
    return web.Response(text=str(request.transport.get_extra_info("peer")))


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def digest(request: web.Request) -> web.Response:
    answer = hashlib.sha256()
    async for piece in request.content.iter_any():
        answer.update(piece)
    return web.Response(text=answer.hexdigest())


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(100):
        await response.write(b"y" * 100_000)
    await response.write_eof()
    return response


async def refuse_body(request: web.Request) -> web.Response:
    raise web.HTTPRequestEntityTooLarge(max_size=1, actual_size=2)


async def talk(request: web.Request) -> web.WebSocketResponse:
    socket_ = web.WebSocketResponse(heartbeat=5, max_msg_size=16_000_000)
    await socket_.prepare(request)
    async for message in socket_:
        if message.data == "leave":
            await socket_.close(code=4000, message=b"as you wish")
        elif isinstance(message.data, bytes):
            await socket_.send_bytes(message.data)
        else:
            await socket_.send_str(f"echo {message.data}")
    return socket_


@dataclass
class Site:
    wire: Wire
    server: HttpsServer
    dialled: int = 0

    async def dial(self) -> socket.socket:
        self.dialled += 1
        return await self.wire.dial()

    def session(self, identity_of: Name = SESSION) -> aiohttp.ClientSession:
        tls = self.wire.client_tls(self.wire.authority.identity(identity_of), alpn=["http/1.1"])
        return aiohttp.ClientSession(connector=connector(self.dial, tls))


@pytest.fixture
async def site(wire: Wire) -> AsyncIterator[Site]:
    async with serving(wire) as found:
        yield found


@contextlib.asynccontextmanager
async def serving(wire: Wire, **options: Any) -> AsyncIterator[Site]:
    app = web.Application(client_max_size=100_000_000)
    app.add_routes(
        [
            web.get("/who", who),
            web.post("/echo", echo),
            web.post("/digest", digest),
            web.get("/stream", stream),
            web.post("/refuse", refuse_body),
            web.get("/talk", talk),
        ]
    )
    tls = wire.server_tls(alpn=["http/1.1"], **options)
    server = HttpsServer(app, tls, on_refused=wire.refusals.put_nowait)
    with socket.socket() as too_early, pytest.raises(LocalError):
        server.accept(too_early)
    await server.start()

    async def serve() -> None:
        while True:
            server.accept(await wire.accept())

    at_work = asyncio.ensure_future(serve())
    yield Site(wire, server)
    at_work.cancel()
    async with asyncio.timeout(60):
        await server.close()


async def test_a_request_knows_its_peer_and_connections_are_reused(site: Site) -> None:
    async with site.session() as session:
        for _ in range(5):
            async with session.get(f"{URL}/who") as response:
                assert await response.text() == str(SESSION)
    assert site.dialled == 1


async def test_many_requests_at_once(site: Site) -> None:
    async def ask(session: aiohttp.ClientSession, number: int) -> None:
        body = os.urandom(1000 * number)
        async with session.post(f"{URL}/echo", data=body) as response:
            assert await response.read() == body

    async with site.session() as session, asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(ask(session, number))


async def test_fifty_megabytes_up(site: Site) -> None:
    data = os.urandom(50_000_000)
    async with site.session() as session, session.post(f"{URL}/digest", data=io.BytesIO(data)) as response:
        assert await response.text() == hashlib.sha256(data).hexdigest()


async def test_a_stream_down(site: Site) -> None:
    async with site.session() as session, session.get(f"{URL}/stream") as response:
        assert sum([len(piece) async for piece in response.content.iter_any()]) == 10_000_000


async def test_a_refusal_reaches_a_client_that_is_still_sending(site: Site) -> None:
    async with site.session() as session:
        body = io.BytesIO(os.urandom(2_000_000))
        async with session.post(f"{URL}/refuse", data=body) as response:
            assert response.status == 413


async def test_websocket_both_ways(site: Site) -> None:
    async with site.session() as session, session.ws_connect(f"{URL}/talk", max_msg_size=16_000_000) as talking:
        await talking.send_str("hello")
        assert await talking.receive_str() == "echo hello"
        big = os.urandom(10_000_000)
        await talking.send_bytes(big)
        assert await talking.receive_bytes() == big
        await talking.ping()
        await talking.send_str("leave")
        message = await talking.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4000, "as you wish")


async def test_the_wrong_certificate_never_becomes_a_request(site: Site) -> None:
    async with site.session(DEVICE) as session:
        with pytest.raises(aiohttp.ClientError) as caught:
            await session.get(f"{URL}/who")
    refused = refusal_in(caught.value)
    assert refused is not None
    assert refused.reason == "refused_by_peer"
    assert (await site.wire.refusals.get()).reason == "wrong_issuer"


async def test_the_wrong_server_is_an_error_of_the_request(site: Site) -> None:
    tls = site.wire.client_tls(expect=Name(DOMAIN, GATEWAY.kind, "other"), alpn=["http/1.1"])
    async with aiohttp.ClientSession(connector=connector(site.dial, tls)) as session:
        with pytest.raises(TlsRefused) as caught:
            await session.get(f"{URL}/who")
    assert caught.value.reason == "wrong_name"
    assert isinstance(caught.value, aiohttp.ClientError)
    assert refusal_in(caught.value) is caught.value
    assert refusal_in(ValueError()) is None


async def test_what_dialling_raises_reaches_the_caller(site: Site) -> None:
    async def nowhere() -> socket.socket:
        raise LookupError("no controller answers")

    async with aiohttp.ClientSession(connector=connector(nowhere, site.wire.client_tls())) as session:
        with pytest.raises(LookupError):
            await session.get(f"{URL}/who")


async def test_closing_the_server_closes_its_websockets(site: Site) -> None:
    async with site.session() as session, session.ws_connect(f"{URL}/talk") as talking:
        await talking.send_str("x")
        await talking.receive_str()
        closing = asyncio.ensure_future(talking.close())
        await closing
        assert talking.closed


async def silent(site: Site, said: bytes = b"", *, nameless: bool = False) -> Recorder:
    """A connection that was verified and says no whole request."""
    identity = None if nameless else site.wire.authority.identity(SESSION)
    tls = ClientTls(identity, site.wire.trust, GATEWAY, alpn=["http/1.1"])
    transport, protocol = await connect_tls(await site.dial(), tls, site.wire.recorder)
    if said:
        transport.write(said)
    return protocol


async def test_who_says_no_whole_request_does_not_stay(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAD_DEADLINE", 0.2)
    async with serving(wire) as site, site.session() as session, session.ws_connect(f"{URL}/talk") as talking:
        for said in (b"", b"GET /who HTTP/1.1\r\nHost: "):
            protocol = await silent(site, said)
            async with asyncio.timeout(60):
                await protocol.lost
            assert not protocol.received
        await talking.send_str("still here")  # its request came long before theirs had to
        assert (await talking.receive()).data == "echo still here"


async def test_the_newest_connection_of_a_peer_is_served_and_the_oldest_leaves(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PEER_CONNECTIONS", 2)
    monkeypatch.setattr(limits, "NAMELESS_PER_SOURCE", 1)
    async with serving(wire, require_client=False) as site:
        first, nameless = await silent(site), await silent(site, nameless=True)
        async with site.session() as session:
            for _ in range(3):
                async with session.get(f"{URL}/who") as response:
                    assert await response.text() == str(SESSION)
            another = await silent(site)
            async with asyncio.timeout(60):
                await first.lost
            assert not nameless.lost.done(), "those without a name have room of their own"
            newer = await silent(site, nameless=True)
            async with asyncio.timeout(60):
                await nameless.lost
        assert not another.lost.done()
        assert not newer.lost.done()
