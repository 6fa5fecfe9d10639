"""Any HTTPS-proxy client can use a gateway: curl is the one people have."""

import asyncio
import os
import shutil
import socket
from pathlib import Path

import pytest

from tests.wire.harness import SESSION, Wire
from wire.connect import ConnectRequest, NeedMore, ServerHandshake, accept_response, refuse_response
from wire.relay import Held, Relay
from wire.tls import TlsTransport

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="there is no curl here")


class Gateway(asyncio.Protocol):
    """The least of gateways: one resource, `wiki:80`."""

    def __init__(self, target: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        self.target = target
        self.handshake = ServerHandshake()
        self.dialling: asyncio.Task[None] | None = None
        self.relay: asyncio.Future[Relay] = loop.create_future()
        self.group: asyncio.Future[str] = loop.create_future()
        self.asked: ConnectRequest | None = None
        self.lost = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport
        self.group.set_result(transport.get_extra_info("group"))

    def data_received(self, data: bytes) -> None:
        answer = self.handshake.receive(data)
        if isinstance(answer, NeedMore):
            return
        assert isinstance(answer, ConnectRequest), answer
        self.asked = answer
        if answer.name != "wiki":
            self.transport.write(refuse_response(404, "destination_not_found", "there is no such resource here"))
            self.transport.close()
            return
        self.transport.pause_reading()
        self.dialling = asyncio.ensure_future(self.dial(answer.rest))

    async def dial(self, rest: bytes) -> None:
        plain, _ = await asyncio.get_running_loop().create_connection(Held, *self.target)
        self.transport.write(accept_response())
        self.relay.set_result(Relay(self.transport, plain, to_plain=rest))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def curl(wire: Wire, directory: Path, *arguments: str) -> tuple[int, bytes, bytes]:
    identity = wire.authority.identity(SESSION)
    (directory / "session.pem").write_bytes(identity.chain_pem + identity.key.reveal())
    (directory / "root.pem").write_bytes(wire.trust.to_pem())
    host, port = wire.address
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL, "-sS", "--max-time", "20", "--noproxy", "", "--proxytunnel",
        "--proxy", f"https://{host}:{port}",
        "--proxy-cacert", str(directory / "root.pem"),
        "--proxy-cert", str(directory / "session.pem"),
        "--proxy-key", str(directory / "session.pem"),
        *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out, err


async def answer_once(listener: socket.socket, body: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    sock, _ = await loop.sock_accept(listener)
    request = b""
    while b"\r\n\r\n" not in request:
        request += await loop.sock_recv(sock, 65536)
    await loop.sock_sendall(
        sock, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    )
    sock.close()
    return request


async def test_curl_fetches_through_a_tunnel(wire: Wire, tmp_path: Path) -> None:
    body = os.urandom(20_000_000)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        gateway = Gateway(listener.getsockname()[:2])
        async with asyncio.TaskGroup() as group:
            group.create_task(wire.serve_one(wire.server_tls(), lambda: gateway))
            asked = group.create_task(answer_once(listener, body))
            fetched = group.create_task(curl(wire, tmp_path, "http://wiki/page"))
    assert fetched.result() == (0, body, b"")
    assert asked.result().startswith(b"GET /page HTTP/1.1\r\n")
    assert gateway.asked == ConnectRequest("wiki", 80, b"")
    assert gateway.transport.get_extra_info("alpn") in {"", "http/1.1"}  # older curls offer none to a proxy
    assert gateway.transport.get_extra_info("peer") == SESSION
    assert await gateway.group in {"X25519", "X25519MLKEM768"}
    relay = await gateway.relay
    assert await relay.closed in {"done", "tls_lost"}
    assert relay.bytes_to_tls >= len(body)


async def test_curl_shows_a_refusal(wire: Wire, tmp_path: Path) -> None:
    gateway = Gateway(("127.0.0.1", 1))
    async with asyncio.TaskGroup() as group:
        group.create_task(wire.serve_one(wire.server_tls(), lambda: gateway))
        fetched = group.create_task(curl(wire, tmp_path, "-D", "-", "http://nowhere/"))
    status, out, err = fetched.result()
    assert status == 56
    assert b'Proxy-Status: gloam; error=destination_not_found; details="there is no such resource here"' in out
    assert b"404" in err
    await gateway.lost


async def test_curl_without_a_certificate_is_refused(wire: Wire, tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(wire.serve_one(wire.server_tls(), lambda: pytest.fail("a protocol for nobody")))
        fetched = group.create_task(curl(wire, tmp_path, "--proxy-cert", "", "--proxy-key", "", "http://wiki/"))
        assert (await wire.refusals.get()).reason in {"no_certificate", "closed"}
    assert fetched.result()[0] != 0
