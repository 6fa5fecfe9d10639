"""A resource that speaks UDP: a real DNS server behind the gateway, asked with dig through `gloam forward`."""

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from client.datagrams import MAX_FLOWS
from lab.perimeter import Client
from lab.processes import Process, finish, script
from tests.scenarios.intruder import Intruder, Watch, gateway_of, read_to_end, untroubled
from wire.capsule import encode_datagram

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
QUESTIONS = 200
FAILED, USAGE, DENIED = 1, 2, 4
PARTS = [f"{number:02}-" + "x" * 197 for number in range(15)]
"""A TXT record of 3,000 bytes: more than DNS has room for without EDNS, and more than an Ethernet frame."""


@pytest.fixture(scope="module")
def path() -> Callable[[str, str], str]:
    import shutil

    def find(name: str, package: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
        if found is None:
            pytest.skip(f"needs {name}: apt-get install {package}")
        return found

    return find


def free_port() -> int:
    """A port nobody uses on ::1, outside the range that kernels choose from by themselves."""
    for _ in range(100):
        port = 10_000 + secrets.randbelow(20_000)
        with (
            socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as tcp,
            contextlib.suppress(OSError),
        ):
            udp.bind(("::1", port))
            tcp.bind(("::1", port))
            return port
    raise OSError("every port is taken")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def alice(shared_stage: Any, path: Callable[[str, str], str]) -> AsyncIterator[Client]:
    """She may reach the DNS server, under one name for its IPv4 and one for its IPv6 address."""
    perimeter = shared_stage.perimeter
    host, port = perimeter.block.address(150), free_port()
    argv = [
        path("dnsmasq", "dnsmasq-base"), "--no-daemon", "--conf-file=/dev/null", "--pid-file", "--no-resolv",
        "--no-hosts", "--bind-interfaces", f"--listen-address={host}", "--listen-address=::1", f"--port={port}",
        "--edns-packet-max=4096", f"--txt-record=large.corp,{','.join(PARTS)}",
        *(f"--host-record=host{number}.corp,10.1.2.{number}" for number in range(QUESTIONS)),
    ]  # fmt: skip
    server = await Process.start("dnsmasq", argv, log=perimeter.directory / "dnsmasq.log", awaited=b"started")
    await server.ready()
    await perimeter.add_resource("dns", gateways=["edge"], target=f"{host}:{port}/udp", port=53)
    await perimeter.add_resource("dns6", gateways=["edge"], target=f"[::1]:{port}/udp", port=53)
    client: Client = await shared_stage.person("alice")
    for name in ("dns", "dns6"):
        await perimeter.admin_json("grant", "add", "--user", "alice", "--resource", name)
    yield client
    await server.stop()


@contextlib.asynccontextmanager
async def forwarded(
    client: Client, resource: str, listen: str = "127.0.0.1:0"
) -> AsyncIterator[tuple[str, int, Process]]:
    process, host, port = await client.forward(resource, listen=listen)
    try:
        yield host, port, process
    finally:
        await process.stop()
    assert "Traceback" not in process.log.read_text()


async def dig(path: Callable[[str, str], str], host: str, port: int, *arguments: str) -> str:
    """What dig prints; UDP may lose a datagram, so it may ask again."""
    argv = [path("dig", "bind9-dnsutils"), f"@{host}", "-p", str(port), "+tries=5", "+time=5", *arguments]
    done = await finish(argv, seconds=PATIENCE * 2)
    assert done.code == 0, done.out + done.err
    return done.out


def question(number: int) -> bytes:
    """A DNS query (RFC 1035 §4.1) for the address of that host; the number is its id, too."""
    name = b"".join(bytes([len(label)]) + label for label in (b"host%d" % number, b"corp"))
    return number.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\0\1\0\1"


async def asked(sock: socket.socket, number: int, where: tuple[str, int]) -> bytes:
    """The address of that host; the question is repeated until an answer comes."""
    loop = asyncio.get_running_loop()
    for _ in range(PATIENCE):
        await loop.sock_sendto(sock, question(number), where)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:  # past late answers to questions that were repeated
                    answer = await loop.sock_recv(sock, 4_096)
                    if answer[:2] == question(number)[:2]:
                        return answer[-4:]
    raise TimeoutError


@contextlib.contextmanager
def senders(count: int) -> Iterator[list[socket.socket]]:
    """Local addresses of their own."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(count)]
        for each in made:
            each.setblocking(False)  # noqa: FBT003
            each.bind(("127.0.0.1", 0))
        yield made


async def test_a_dns_server_answers_dig(
    shared_stage: Any, alice: Client, path: Callable[[str, str], str], tmp_path: Path
) -> None:
    async with forwarded(alice, "dns/udp") as (host, port, forward):
        assert await dig(path, host, port, "+short", "host7.corp", "A") == "10.1.2.7\n"

        whole = await dig(path, host, port, "+bufsize=4096", "+ignore", "large.corp", "TXT")
        assert all(part in whole for part in PARTS)
        assert " tc" not in whole
        short = await dig(path, host, port, "+noedns", "+ignore", "large.corp", "TXT")
        assert " tc" in short  # the server says so itself: not a byte of it was lost on the way

        questions = tmp_path / "questions"
        questions.write_text("".join(f"host{number}.corp A\n" for number in range(QUESTIONS)))
        answers = await dig(path, host, port, "+short", "-f", str(questions))
        assert answers.split() == [f"10.1.2.{number}" for number in range(QUESTIONS)]

        with senders(MAX_FLOWS + 8) as many:  # the last ones are served when others have been silent
            found = await asyncio.gather(*(asked(each, number, (host, port)) for number, each in enumerate(many)))
            assert found == [bytes([10, 1, 2, number]) for number in range(len(many))]  # to each its own
        assert f"{MAX_FLOWS} local addresses" in await forward.said("use this port at once", PATIENCE)

    opened = await shared_stage.events("tunnel.opened", resource="dns")
    assert len(opened) >= QUESTIONS  # dig asks every question from a port of its own
    assert {(each["protocol"], each["user"], each["gateway"]) for each in opened} == {("udp", "alice", "edge")}
    assert all(each["target"].startswith(shared_stage.perimeter.block.address(150)) for each in opened)


async def test_ipv6_on_both_ends(alice: Client, path: Callable[[str, str], str]) -> None:
    async with forwarded(alice, "dns6:53/udp", listen="[::1]:0") as (host, port, _):
        assert host == "::1"
        assert await dig(path, host, port, "+short", "host9.corp", "A") == "10.1.2.9\n"


def get(target: str, *fields: str) -> bytes:
    """A connect-udp to this NAME/PORT, with more fields."""
    usual = ("Host: edge", "Connection: Upgrade", "Upgrade: connect-udp")
    return "\r\n".join([f"GET /.well-known/masque/udp/{target}/ HTTP/1.1", *usual, *fields, "", ""]).encode()


REFUSED = {
    "a TCP resource": (get("wiki/80"), 404),
    "what nobody granted": (get("payroll/80"), 403),
    "another port": (get("dns/54"), 404),
    "an address": (get("127.0.0.1/53"), 404),
    "an IPv6 address": (get("%3A%3A1/53"), 404),
    "a path in the name": (get("..%2Fdns/53"), 400),
    "content": (get("dns/53", "Content-Length: 3") + b"abc", 400),
    "a WebSocket": (get("dns/53", "Upgrade: websocket"), 400),
    "the resource by CONNECT": (b"CONNECT dns:53 HTTP/1.1\r\nHost: dns:53\r\n\r\n", 404),
}
BROKEN = {
    "64 KiB": b"\x00\x80\x01\x00\x00\x00",
    "of zero bytes": b"\x00\x00",
    "of 2^62 - 1 bytes": b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x00",
}


async def test_capsules_of_his_own_get_a_sessions_holder_nowhere(shared_stage: Any, alice: Client) -> None:
    edge = gateway_of(shared_stage.perimeter)
    intruder = Intruder.with_client(shared_stage.perimeter, alice)
    async with Watch.on(shared_stage.perimeter) as watch:
        for what, (data, status) in REFUSED.items():
            async with intruder.speak(edge) as (reader, writer):
                writer.write(data)
                assert (await read_to_end(reader)).startswith(b"HTTP/1.1 %d " % status), what
        refused = [
            await watch.until("tunnel.refused", code=code) for code in ("tcp_resource", "no_grant", "udp_resource")
        ]
        assert {each["user"] for each in refused} == {"alice"}
        assert "tunnel.opened" not in {event["kind"] for event in watch.take()}

        switched = b"HTTP/1.1 101 Switching Protocols\r\n"
        for what, capsule in BROKEN.items():
            async with intruder.speak(edge) as (reader, writer):
                writer.write(get("dns/53") + capsule + bytes(1_000))
                assert (await read_to_end(reader)).partition(b"\r\n\r\n")[2] == b"", what
            assert (await watch.until("tunnel.closed", code="bad_capsule"))["bytes_up"] == 0
            watch.take()

        async with intruder.speak(edge) as (reader, writer):
            skipped = b"\x17\x80\x01\x00\x00" + bytes(65_536) + b"\x00\x02\x02?" + b"\x17\x00"
            writer.write(get("dns/53") + skipped + encode_datagram(question(5)))
            async with asyncio.timeout(PATIENCE):
                said = await reader.readuntil(bytes([10, 1, 2, 5]))
            assert said.startswith(switched)
            assert question(5)[:2] in said.partition(b"\r\n\r\n")[2]
            told = await finish(
                [script("gloam-gateway"), "status", "--state", str(shared_stage.perimeter.gateway_state("edge"))]
            )
            assert re.search(r"\bdns\b.*\budp\b", told.out), told.out
            writer.write(encode_datagram(question(5))[:-1])
            writer.write_eof()  # in the middle of a capsule
            await read_to_end(reader)
        assert (await watch.until("tunnel.closed", code="bad_capsule"))["bytes_up"] == len(question(5))
    untroubled(shared_stage.perimeter.processes["gateway-edge"].log)


async def test_silence_ends_a_tunnel_and_nobody_notices(shared_stage: Any, alice: Client) -> None:
    perimeter = shared_stage.perimeter
    await perimeter.add_gateway("brief", start=False)
    await perimeter.start_gateway("brief", GLOAM_UDP_IDLE="1s")
    targets = {each["name"]: each["target"] for each in await perimeter.admin_json("resource", "list")}
    await perimeter.add_resource("dns-brief", gateways=["brief"], target=f"{targets['dns']}/udp", port=53)
    await perimeter.admin_json("grant", "add", "--user", "alice", "--resource", "dns-brief")
    async with forwarded(alice, "dns-brief/udp") as (host, port, _):
        with senders(1) as (sock,):
            assert await asked(sock, 1, (host, port)) == bytes([10, 1, 2, 1])
            async with asyncio.timeout(PATIENCE):
                while not (closed := await shared_stage.events("tunnel.closed", resource="dns-brief")):
                    pass
            assert {each["code"] for each in closed} == {"idle"}
            assert await asked(sock, 2, (host, port)) == bytes([10, 1, 2, 2])


async def test_whoever_asks_in_the_wrong_way_is_told_the_right_one(shared_stage: Any, alice: Client) -> None:
    hint = "gloam forward dns/udp"
    cases = (
        (("connect", "dns"), FAILED, hint),
        (("connect", "dns/udp"), USAGE, hint),
        (("knock", "dns"), FAILED, hint),
        (("forward", "dns"), FAILED, hint),
        (("forward", "dns:54/udp"), FAILED, "dns:53"),
        (("forward", "wiki/udp"), FAILED, "without /udp"),
        (("forward", "payroll/udp"), DENIED, "No grant lets you reach payroll"),
        (("forward", "dns/sctp"), USAGE, "RESOURCE"),
    )
    done = await asyncio.gather(*(alice.gloam(*arguments, text="") for arguments, _, _ in cases))
    for (arguments, code, told), refused in zip(cases, done, strict=True):
        assert (refused.code, refused.out) == (code, ""), arguments
        assert len(refused.err.strip().splitlines()) == 1, refused.err
        assert told in refused.err, refused.err
    listed = {each["name"]: each["protocol"] for each in await alice.json("resources")}
    assert (listed["dns"], listed["wiki"]) == ("udp", "tcp")
    explained = await shared_stage.perimeter.admin_json("policy", "explain", "--user", "alice", "--resource", "dns")
    assert explained["answer"] == "allow"


async def test_a_right_that_is_lost_cuts_it_off(shared_stage: Any, alice: Client) -> None:
    perimeter = shared_stage.perimeter
    async with forwarded(alice, "dns6/udp") as (host, port, forward):
        with senders(1) as (sock,):
            assert await asked(sock, 7, (host, port)) == bytes([10, 1, 2, 7])
            live = (await perimeter.gateway_status("edge"))["tunnels"]
            assert [each["protocol"] for each in live if each["resource"] == "dns6"] == ["udp"]
            (grant,) = [each for each in await perimeter.admin_json("grant", "list") if each["on"] == "resource dns6"]
            await perimeter.admin_json("grant", "remove", grant["id"])
            async with asyncio.timeout(PATIENCE):
                while not (cut := await shared_stage.events("tunnel.closed", resource="dns6", code="permit_lost")):
                    pass
            assert [(each["user"], each["protocol"], each["dropped"]) for each in cut] == [("alice", "udp", 0)]
            assert cut[0]["bytes_down"] > cut[0]["bytes_up"] >= len(question(7))
            told = asyncio.create_task(forward.said("No grant lets you reach dns6", PATIENCE))
            while not told.done():  # each asks for a new tunnel, once the old one is known to be gone
                sock.sendto(question(7), (host, port))
                await asyncio.wait([told], timeout=0.2)
            assert "ask an administrator" in told.result()
    assert (await alice.gloam("forward", "dns6/udp")).code == DENIED
