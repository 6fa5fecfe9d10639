import asyncio
import os
import socket

import pytest
from OpenSSL import SSL

from tests.wire.harness import GATEWAY, Recorder, Wire, until
from wire import limits
from wire.arrivals import Told
from wire.errors import TlsRefused
from wire.tls import accept_tls, connect_tls


async def read_to_end(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    try:
        while piece := await loop.sock_recv(sock, 65536):
            data += piece
    except ConnectionResetError:
        pass
    sock.close()
    return data


@pytest.mark.parametrize(
    ("sent", "reasons"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", {"not_tls"}),
        (b"SSH-2.0-OpenSSH_9.2\r\n", {"not_tls"}),
        (b"\x00" * 64, {"not_tls"}),
        (b"\xff" * 400, {"not_tls"}),
        (b"\x16\x03\x01\xff\xff" + b"\x01" * 70_000, {"not_tls", "too_large"}),
        (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", {"bad_tls"}),
        (b"\x15\x03\x01\x00\x02\x02\x28", {"bad_tls"}),
    ],
    ids=["http", "ssh", "zeros", "ones", "huge record", "short hello", "alert"],
)
async def test_garbage_is_refused_with_a_reason(wire: Wire, sent: bytes, reasons: set[str]) -> None:
    serving = asyncio.ensure_future(wire.serve_one(wire.server_tls(), lambda: pytest.fail("a protocol for garbage")))
    sock = await wire.dial()
    await asyncio.get_running_loop().sock_sendall(sock, sent)
    refusal = await wire.refusals.get()
    await serving
    assert refusal.reason in reasons, refusal
    assert refusal.source == sock.getsockname()[:2]
    assert len(await read_to_end(sock)) <= 64


async def test_a_handshake_that_never_ends_meets_its_deadline(wire: Wire) -> None:
    server = wire.server_tls()
    serving = asyncio.ensure_future(wire.serve_one(server, wire.recorder, deadline=0.05))
    sock = await wire.dial()
    refusal = await wire.refusals.get()
    await serving
    assert refusal.reason == "deadline"
    assert not server.pending
    assert await read_to_end(sock) == b""


async def test_a_handshake_one_byte_at_a_time_meets_the_same_deadline(wire: Wire) -> None:
    serving = asyncio.ensure_future(wire.serve_one(wire.server_tls(), wire.recorder, deadline=0.1))
    sock = await wire.dial()
    loop = asyncio.get_running_loop()
    connection = wire.client_tls().new_connection()
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    refused = asyncio.ensure_future(wire.refusals.get())
    for byte in connection.bio_read(65536):
        if refused.done():
            break
        try:
            await loop.sock_sendall(sock, bytes([byte]))
        except ConnectionError:
            break
        await asyncio.sleep(0.01)
    assert (await refused).reason == "deadline"
    await serving
    sock.close()


async def test_bytes_before_the_peer_is_known_are_bounded(wire: Wire) -> None:
    """A ClientHello may be long, and records may be many: both stop at the bound."""
    serving = asyncio.ensure_future(wire.serve_one(wire.server_tls(), wire.recorder))
    sock = await wire.dial()
    hello = b"\x01" + (131_000).to_bytes(3, "big") + os.urandom(130_996)
    records = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (hello[start : start + 16_000] for start in range(0, len(hello), 16_000))
    )
    with pytest.raises((ConnectionError, TimeoutError)):
        await asyncio.get_running_loop().sock_sendall(sock, records * 50)
    assert (await wire.refusals.get()).reason == "too_large"
    await serving
    sock.close()


async def test_a_peer_that_leaves_is_reported_once(wire: Wire) -> None:
    server = wire.server_tls()
    serving = asyncio.ensure_future(wire.serve_one(server, wire.recorder))
    sock = await wire.dial()
    await asyncio.get_running_loop().sock_sendall(sock, b"\x16\x03\x01")
    sock.close()
    assert (await wire.refusals.get()).reason == "closed"
    await serving
    assert wire.refusals.empty()
    assert not server.pending


async def test_silent_connections_and_handshakes_are_capped_and_the_oldest_gives_way(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SILENT", 2)
    monkeypatch.setattr(limits, "MAX_PENDING_HANDSHAKES", 1)
    server = wire.server_tls()
    loop = asyncio.get_running_loop()

    async def refused() -> int:
        refusal = await wire.refusals.get()
        assert refusal.reason == "too_many"
        return refusal.source[1]

    socks = [await wire.dial() for _ in range(5)]
    ports = [sock.getsockname()[1] for sock in socks]
    for _ in range(3):
        await wire.serve_one(server, wire.recorder)
    assert await refused() == ports[0]
    assert await read_to_end(socks[0]) == b""
    for number in (1, 2):
        await loop.sock_sendall(socks[number], b"\x16\x03\x01")
        await until(lambda number=number: sum(arrival.spoken for arrival in server.pending) == 1 or number == 2)
    assert await refused() == ports[1]
    for _ in range(2):
        await wire.serve_one(server, wire.recorder)
    assert len(server.pending) == 3
    server.abandon_pending()
    assert {(await wire.refusals.get()).source[1] for _ in range(3)} == set(ports[2:])
    assert not server.pending
    for sock in socks:
        sock.close()


async def test_who_fills_the_waiting_room_does_not_keep_others_out(wire: Wire) -> None:
    """Twice as many silent connections as one source may have; then somebody who speaks."""
    server = wire.server_tls()
    socks = []
    for _ in range(2 * limits.MAX_SILENT_PER_SOURCE):
        socks.append(await wire.dial())
        await wire.serve_one(server, wire.recorder)
    assert len(server.pending) == limits.MAX_SILENT_PER_SOURCE
    pair = await wire.pair(server)
    await pair.client.send(b"here")
    assert await pair.server.wait_for(4) == b"here"
    for sock in socks:
        sock.close()


async def test_a_silent_peer_costs_no_tls(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    server = wire.server_tls()
    monkeypatch.setattr(server, "new_connection", lambda: pytest.fail("OpenSSL for somebody who has said nothing"))
    serving = asyncio.ensure_future(wire.serve_one(server, wire.recorder, deadline=0.05))
    sock = await wire.dial()
    assert (await wire.refusals.get()).reason == "deadline"
    await serving
    sock.close()


def test_refusals_are_told_one_by_one_while_they_are_few() -> None:
    told = Told(2)
    assert [told.tell("no", second) for second in (7.0, 7.5)] == ["no", "no"]
    assert [told.tell("no", second) for second in (7.6, 7.7, 7.9)] == [None, None, None]
    assert told.tell("no", 8.1) == "no (and 3 handshakes before it failed that are not told one by one)"
    assert told.tell("no", 8.2) == "no"


async def test_a_peer_that_leaves_without_a_word_is_no_refusal(wire: Wire) -> None:
    server = wire.server_tls()
    sock = await wire.dial()
    here = await wire.accept()
    accept_tls(asyncio.get_running_loop(), here, server, wire.recorder, on_refused=wire.refusals.put_nowait)
    sock.close()
    async with asyncio.timeout(60):
        while server.pending:  # noqa: ASYNC110 - the set is the server's own; it tells nobody
            await asyncio.sleep(0)
    assert wire.refusals.empty()


async def test_a_protocol_that_cannot_be_made_closes_the_connection_and_says_so(wire: Wire) -> None:
    def broken() -> asyncio.Protocol:
        raise LookupError("no room")

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    server = wire.server_tls()
    serving = asyncio.ensure_future(wire.serve_one(server, broken))
    _, client = await connect_tls(await wire.dial(), wire.client_tls(), wire.recorder)
    assert (await wire.refusals.get()).reason == "internal"
    assert isinstance(await client.lost, Exception)
    await serving
    assert not server.pending


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\x15\x03\x03\x00\x02\x02\x28"])
async def test_a_client_learns_why_its_handshake_failed(wire: Wire, answer: bytes) -> None:
    async def server() -> None:
        sock = await wire.accept()
        loop = asyncio.get_running_loop()
        await loop.sock_recv(sock, 65536)
        await loop.sock_sendall(sock, answer)
        sock.close()

    serving = asyncio.ensure_future(server())
    with pytest.raises(TlsRefused) as caught:
        await connect_tls(await wire.dial(), wire.client_tls(), wire.recorder)
    assert caught.value.reason in {"not_tls", "closed", "refused_by_peer"}
    assert str(caught.value)
    await serving


async def test_a_client_waits_no_longer_than_its_timeout(wire: Wire) -> None:
    sock = await wire.dial()
    with pytest.raises(TlsRefused) as caught:
        await connect_tls(sock, wire.client_tls(), wire.recorder, timeout=0.05)
    assert caught.value.reason == "deadline"


async def test_a_client_that_is_cancelled_leaves_nothing_behind(wire: Wire) -> None:
    sock = await wire.dial()
    task = asyncio.ensure_future(connect_tls(sock, wire.client_tls(), wire.recorder))
    here = await wire.accept()
    assert await asyncio.get_running_loop().sock_recv(here, 65536)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await read_to_end(here) == b""


async def test_a_client_given_a_dead_socket_says_so(wire: Wire) -> None:
    sock = await wire.dial()
    sock.close()
    with pytest.raises(TlsRefused) as caught:
        await connect_tls(sock, wire.client_tls(), wire.recorder)
    assert caught.value.reason == "closed"


async def test_payload_right_behind_the_handshake_arrives(wire: Wire) -> None:
    """The client's first bytes may share a segment with its Finished."""

    class Eager(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"at once")

    here = wire.recorder()
    serving = asyncio.ensure_future(wire.serve_one(wire.server_tls(), lambda: here))
    transport, _ = await connect_tls(await wire.dial(), wire.client_tls(expect=GATEWAY), Eager)
    await serving
    await here.made
    assert await here.wait_for(7) == b"at once"
    transport.abort()
