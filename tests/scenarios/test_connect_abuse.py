"""What a session's holder can make the gateway do with bytes of his own: nothing but what his lease permits.

Every connection here is a real tunnel's: knocked for, TLS with the session's certificate. Behind the names stands one
listener that counts: whatever is refused must not have been dialled.
"""

import asyncio
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from lab.addresses import TLS_PORT
from lab.visitor import fetch
from tests.scenarios.intruder import Intruder, Watch, gateway_of, read_to_end, untroubled

SLOW_PAUSE = 0.2


def connect(target: str, *fields: str, version: str = "1.1") -> bytes:
    """A CONNECT with these header fields, Host last unless one is among them."""
    hosts = [] if any(each.lower().startswith("host:") for each in fields) else [f"Host: {target}"]
    return "\r\n".join([f"CONNECT {target} HTTP/{version}", *fields, *hosts, "", ""]).encode()


@dataclass
class Counting:
    """A hidden server that only counts who comes."""

    address: str
    came: int = 0
    server: asyncio.Server | None = field(default=None, repr=False)

    async def start(self) -> None:
        host, _, port = self.address.rpartition(":")
        self.server = await asyncio.start_server(self._count, host, int(port))

    async def _count(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came += 1
        writer.write(b"somebody came")
        writer.close()

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture
async def counted(stage: Any) -> Any:
    """Two names for one counting listener: the ledger, which staff may reach, and the vault, which nobody may."""
    perimeter = stage.perimeter
    counting = Counting(f"{perimeter.block.address(199)}:9999")
    await counting.start()
    for name in ("ledger", "vault"):
        await perimeter.add_resource(name, gateways=["edge"], target=counting.address)
    await perimeter.admin_json("grant", "add", "--group", "staff", "--resource", "ledger")
    yield counting
    await counting.close()


def refusals(stage: Any, counting: Counting) -> dict[str, tuple[bytes, int, str]]:
    """What is sent, and the status and RFC 9209 error it must be answered with."""
    perimeter = stage.perimeter
    bad, denied, nowhere = "http_request_error", "http_request_denied", "destination_not_found"
    return {
        "a header section that is too large": (connect("ledger:80", f"X: {'x' * 9_000}"), 431, bad),
        "one that never ends": (b"CONNECT ledger:80 HTTP/1.1\r\nX: " + b"x" * 9_000, 431, bad),
        "two lengths": (connect("ledger:80", "Content-Length: 0", "Content-Length: 5"), 400, bad),
        "a length": (connect("ledger:80", "Content-Length: 5") + b"bytes", 400, bad),
        "chunks": (connect("ledger:80", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, bad),
        "a GET in absolute form": (b"GET http://ledger/ HTTP/1.1\r\nHost: ledger\r\n\r\n", 405, denied),
        "a CONNECT in absolute form": (connect("http://ledger:80", "Host: ledger"), 400, bad),
        "a path": (connect("ledger:80/", "Host: ledger"), 400, bad),
        "a user": (connect("alice@ledger:80"), 400, bad),
        "no port": (connect("ledger"), 400, bad),
        "port 0": (connect("ledger:0"), 400, bad),
        "a port that is too large": (connect("ledger:65536"), 400, bad),
        "a negative port": (connect("ledger:-80"), 400, bad),
        "a port by name": (connect("ledger:http"), 400, bad),
        "another port": (connect("ledger:81"), 404, nowhere),
        "the target itself": (connect(counting.address), 404, nowhere),
        "the target as IPv6": (connect(f"[::ffff:{counting.address.split(':')[0]}]:9999"), 404, nowhere),
        "the controller": (connect(f"{perimeter.controller_address}:{TLS_PORT}"), 404, nowhere),
        "the gateway itself": (connect(f"{perimeter.gateways['edge']}:{TLS_PORT}"), 404, nowhere),
        "localhost": (connect("localhost:9999"), 404, nowhere),
        "a name nobody knows": (connect("nowhere:80"), 404, nowhere),
        "what nobody may reach": (connect("vault:80"), 403, denied),
        "another host's name": (connect("ledger:80", "Host: vault:80"), 400, bad),
        "two hosts": (connect("ledger:80", "Host: ledger:80", "Host: vault:80"), 400, bad),
        "no host": (b"CONNECT ledger:80 HTTP/1.1\r\n\r\n", 400, bad),
        "HTTP/1.0": (connect("ledger:80", version="1.0"), 400, bad),
        "bare line feeds": (connect("ledger:80").replace(b"\r\n", b"\n") + b"\r\n\r\n", 400, bad),
        "a folded field": (connect("ledger:80", "X: a\r\n b"), 400, bad),
        "a NUL in the name": (connect("led\0ger:80"), 400, bad),
        "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405, denied),
        "TLS in TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400, bad),
        "SOCKS": (b"\x05\x01\x00\r\n\r\n", 400, bad),
        "noise": (secrets.token_bytes(2_000).replace(b"\r", b"?") + b"\r\n\r\n", 400, bad),
        "much noise": (secrets.token_bytes(20_000).replace(b"\r", b"?"), 431, bad),
    }


def sockets_of(pid: int) -> list[Any]:
    return list(psutil.Process(pid).net_connections("tcp4"))


def read_answer(answer: bytes) -> tuple[int, str]:
    """Status and RFC 9209 error token of a refusal, which must be a whole HTTP answer and nothing else."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    assert int(fields["content-length"]) == len(body), answer
    status = re.fullmatch(r'gloam; error=([a-z_]+); details="[ -~]+"', fields["proxy-status"])
    assert status, answer
    return int(lines[0].split()[1]), status[1]


async def ask(intruder: Intruder, stage: Any, data: bytes) -> bytes:
    """Everything the gateway answers to `data` until it ends the connection."""
    async with intruder.speak(gateway_of(stage.perimeter)) as (reader, writer):
        writer.write(data)
        return await read_to_end(reader)


async def test_what_is_no_connect_of_his_is_refused_and_nothing_is_dialled(stage: Any, counted: Counting) -> None:
    alice = await stage.person()
    intruder = Intruder.with_client(stage.perimeter, alice)
    async with Watch.on(stage.perimeter) as watch:
        for what, (data, status, error) in refusals(stage, counted).items():
            answer = await ask(intruder, stage, data)
            assert answer, f"{what}: no answer"
            assert read_answer(answer) == (status, error), f"{what}: {answer!r}"
        assert counted.came == 0
        denied = await watch.until("tunnel.refused", resource="vault", status=403)
        assert (denied["user"], denied["code"]) == ("alice", "no_grant")
        assert await ask(intruder, stage, connect("ledger:80")) == (
            b"HTTP/1.1 200 Connection established\r\n\r\nsomebody came"
        )
        assert counted.came == 1  # it would have been seen
        opened = await watch.until("tunnel.opened", resource="ledger")
        assert opened["target"] == counted.address
        assert [event["kind"] for event in watch.take()].count("tunnel.opened") == 1
    untroubled(stage.perimeter.processes["gateway-edge"].log)


async def test_who_is_slow_silent_or_gone_holds_nobody_up_and_leaves_nothing(stage: Any, counted: Counting) -> None:
    alice = await stage.person()
    gateway = stage.perimeter.processes["gateway-edge"]
    intruder = Intruder.with_client(stage.perimeter, alice)
    began = asyncio.get_running_loop().time()

    async def drip() -> bytes:
        async with intruder.speak(gateway_of(stage.perimeter)) as (reader, writer):
            answer = asyncio.create_task(read_to_end(reader))
            for byte in connect("ledger:80", f"X: {'x' * 1_000}"):
                if answer.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.wait([answer], timeout=SLOW_PAUSE)
            return await answer

    async with asyncio.timeout(60):
        slow = asyncio.gather(drip(), ask(intruder, stage, b"CONNECT ledger:80 HT"))
        forward, host, port = await alice.forward("wiki")
        assert await fetch(host, port) == (200, b"<h1>The wiki nobody can see</h1>\n")  # meanwhile others are served
        for answer in await slow:
            assert read_answer(answer) == (408, "http_request_error"), answer
    assert asyncio.get_running_loop().time() - began >= 5
    await forward.stop()

    for data in (b"", b"CONNECT led", connect("ledger:80", f"X: {'x' * 7_000}")[:-4], connect("vault:80")):
        async with intruder.speak(gateway_of(stage.perimeter)) as (_, writer):
            writer.write(data)
    assert counted.came == 0
    assert (await ask(intruder, stage, connect("ledger:80"))).endswith(b"somebody came")
    assert counted.came == 1
    async with asyncio.timeout(60):
        while any(each.raddr and each.raddr.ip == intruder.source for each in sockets_of(gateway.pid)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the kernel announces no such thing
        while (await stage.perimeter.gateway_status("edge"))["tunnels"]:
            pass
    untroubled(gateway.log)
