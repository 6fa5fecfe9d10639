"""UDP tunnels: real TLS, real session certificates, real sockets, a real UDP echo. Only the door is left out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.lifetimes import Lifetimes
from tests.gateway.tunnel_world import ALICE, give
from wire.capsule import CapsuleReader, encode_datagram
from wire.connect import ClientHandshake, NeedMore, Refused, UdpHandshake, Upgraded
from wire.limits import MAX_DATAGRAM
from wire.messages import Address, LeaseDrop, LeasePut, Permit

PATIENCE = 30


class Echo:
    """A UDP server that sends back what it gets; `flood` answers with many."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, port))
        self.sock.setblocking(False)  # noqa: FBT003
        self.address = Address(host=host, port=self.sock.getsockname()[1])
        self.heard: list[bytes] = []
        self.source: Any = None
        asyncio.get_running_loop().add_reader(self.sock, self._answer)

    def _answer(self) -> None:
        data, self.source = self.sock.recvfrom(65_536)
        self.heard.append(data)
        self.sock.sendto(data, self.source)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()


class Tunnel:
    """A client's end of a UDP tunnel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._capsules = CapsuleReader()
        self._payloads: list[bytes] = []

    async def ask(self, name: str, behind: bytes = b"") -> Upgraded | Refused:
        handshake = UdpHandshake(name, 53, "edge:8443")
        self.writer.write(handshake.request() + behind)
        answer: Any = NeedMore()
        while isinstance(answer, NeedMore):
            answer = handshake.receive(await self.reader.read(65_536))
        if isinstance(answer, Upgraded):
            self._capsules.feed(answer.rest)
        return answer

    def send(self, *payloads: bytes) -> None:
        self.writer.write(b"".join(map(encode_datagram, payloads)))

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while not self._payloads:
                self._payloads, again = self._capsules.take(64)
                if not self._payloads and not again:
                    self._capsules.feed(await self.reader.read(65_536) or b"\0\0")
        return self._payloads.pop(0)


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    yield made
    made.close()


def permit(name: str, target: Address, protocol: Any = "udp") -> Permit:
    return Permit(resource=name, port=53, target=target, protocol=protocol, policies=("grant/1",))


@pytest.fixture
async def gateway(start: Callable[..., Any], echo: Echo, make_lease: Any) -> Any:
    made = start()
    give(made, make_lease(7, permit("dns", echo.address), permit("wiki", echo.address, "tcp")))
    return made


@pytest.fixture
async def dial() -> AsyncIterator[Callable[[Any], Any]]:
    """A client's end of a connection to this gateway that has not asked yet."""
    async with AsyncExitStack() as stack:

        async def connect(gateway: Any) -> Tunnel:
            return Tunnel(*await stack.enter_async_context(gateway.dial()))

        yield connect


@pytest.fixture
async def tunnel(gateway: Any, dial: Any) -> Tunnel:
    """An open one to dns."""
    made: Tunnel = await dial(gateway)
    assert isinstance(await made.ask("dns"), Upgraded)
    return made


async def closed(gateway: Any, eventually: Any) -> Any:
    await eventually(lambda: gateway.told("tunnel.closed"), PATIENCE)
    return gateway.told("tunnel.closed")[-1]


async def test_datagrams_go_both_ways_and_are_counted_exactly(
    gateway: Any, dial: Any, echo: Echo, eventually: Any
) -> None:
    tunnel = await dial(gateway)
    assert isinstance(await tunnel.ask("dns", behind=encode_datagram(b"behind the request")), Upgraded)
    assert await tunnel.receive() == b"behind the request"
    payloads = [b"", b"x", bytes(1_400), bytes(range(256)) * 16]
    tunnel.send(*payloads)
    assert [await tunnel.receive() for _ in payloads] == payloads
    ((_, up, down, dropped),) = gateway.tunnels.byte_counts()
    assert (up, down, dropped) == (18 + 1 + 1_400 + 4_096, 18 + 1 + 1_400 + 4_096, 0)
    tunnel.writer.write_eof()
    assert await tunnel.reader.read() == b""
    report = await closed(gateway, eventually)
    (opened,) = gateway.told("tunnel.opened")
    assert (opened.resource, opened.protocol, opened.target) == ("dns", "udp", echo.address)
    assert (report.bytes_up, report.bytes_down, report.dropped, report.reason) == (5_515, 5_515, 0, "done")


async def test_a_burst_of_tiny_ones_arrives(tunnel: Tunnel, echo: Echo, eventually: Any) -> None:
    many = [b"%d" % number for number in range(1_000)]  # the kernel may drop some on their way back, none on this way
    for at in range(0, 1_000, 100):
        tunnel.send(*many[at : at + 100])
        await eventually(lambda: len(echo.heard) == at + 100, PATIENCE)  # noqa: B023
    assert echo.heard == many


async def test_a_resource_is_carried_as_what_it_is(gateway: Any, dial: Any, echo: Echo) -> None:
    asked_for_bytes = await (await dial(gateway)).ask("wiki")
    assert (asked_for_bytes.status, asked_for_bytes.details) == (
        404,
        "wiki:53 is not a UDP resource; ask for it by CONNECT",
    )
    tunnel = await dial(gateway)
    handshake = ClientHandshake("dns", 53)
    tunnel.writer.write(handshake.request())
    answer = handshake.receive(await tunnel.reader.read(65_536))
    assert (answer.status, answer.details) == (404, "dns:53 is a UDP resource; ask for it by connect-udp")
    assert [each.code for each in gateway.told("tunnel.refused")] == ["tcp_resource", "udp_resource"]
    assert echo.heard == []


ENDS = {
    "64 KiB": b"\x00\x80\x01\x00\x00\x00" + bytes(100),
    "of zero bytes": b"\x00\x00",
    "with half a context id": b"\x00\x01\x40",
}


@pytest.mark.parametrize("capsule", ENDS)
async def test_a_capsule_that_cannot_be_ends_the_tunnel(
    gateway: Any, tunnel: Tunnel, echo: Echo, capsule: str, eventually: Any
) -> None:
    tunnel.writer.write(encode_datagram(b"before") + ENDS[capsule])
    with pytest.raises(ConnectionError):
        await tunnel.reader.read()
    report = await closed(gateway, eventually)
    assert report.reason == "bad_capsule"
    await eventually(lambda: not len(gateway.tunnels))


async def test_a_capsule_cut_short_is_a_break(gateway: Any, tunnel: Tunnel, eventually: Any) -> None:
    tunnel.writer.write(encode_datagram(b"whole") + encode_datagram(b"not whole")[:-1])
    assert await tunnel.receive() == b"whole"
    tunnel.writer.write_eof()
    assert (await closed(gateway, eventually)).reason == "bad_capsule"


async def test_what_is_not_known_is_skipped(gateway: Any, tunnel: Tunnel, echo: Echo) -> None:
    tunnel.writer.write(b"\x17\x80\x01\x00\x00" + bytes(65_536))  # an unknown type of 64 KiB
    tunnel.writer.write(b"\x00\x03\x02hi" + b"\x17\x00")  # another context, an unknown type of nothing
    tunnel.send(b"after")
    assert await tunnel.receive() == b"after"
    assert echo.heard == [b"after"]


async def test_the_largest_is_carried_and_a_larger_one_dropped(gateway: Any, tunnel: Tunnel, echo: Echo) -> None:
    largest = bytes(range(256)) * 255 + bytes(MAX_DATAGRAM - 255 * 256)
    tunnel.send(largest)
    assert await tunnel.receive() == largest
    tunnel.send(bytes(MAX_DATAGRAM + 1), b"after")
    assert await tunnel.receive() == b"after"
    assert len(echo.heard) == 2
    assert gateway.tunnels.byte_counts()[0][-1] == 1


async def test_only_the_target_is_heard(tunnel: Tunnel, echo: Echo) -> None:
    tunnel.send(b"first")
    assert await tunnel.receive() == b"first"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.sendto(b"not yours", echo.source)
    tunnel.send(b"second")
    assert await tunnel.receive() == b"second"


async def test_a_target_that_comes_back_finds_its_tunnel(
    gateway: Any, dial: Any, make_lease: Any, eventually: Any
) -> None:
    away = Echo("127.77.53.1")  # nobody else's address: its port stays free until it is back
    where = away.address
    away.close()
    give(gateway, make_lease(7, permit("dns", where)))
    tunnel = await dial(gateway)
    assert isinstance(await tunnel.ask("dns"), Upgraded)
    (relay,) = [each.relay for each in gateway.tunnels]
    tunnel.send(b"to nobody")
    await eventually(lambda: relay.errors, PATIENCE)
    back = Echo(where.host, where.port)
    tunnel.send(b"welcome back")
    assert await tunnel.receive() == b"welcome back"
    back.close()


async def test_one_that_carries_nothing_ends(
    start: Any, dial: Any, echo: Echo, make_lease: Any, eventually: Any
) -> None:
    gateway = start(udp_lifetimes=Lifetimes(idle=0.5))
    give(gateway, make_lease(7, permit("dns", echo.address)))
    tunnel = await dial(gateway)
    assert isinstance(await tunnel.ask("dns", behind=b"\x17\x00"), Upgraded)
    with pytest.raises(ConnectionError):
        await tunnel.reader.read()
    report = await closed(gateway, eventually)
    assert (report.reason, report.bytes_up) == ("idle", 0)
    assert report.seconds >= 0.5


async def test_a_client_that_does_not_read_has_its_datagrams_dropped(
    gateway: Any, tunnel: Tunnel, echo: Echo, eventually: Any
) -> None:
    tunnel.send(b"hello")
    assert await tunnel.receive() == b"hello"
    tunnel.writer.transport.pause_reading()
    relay = next(each.relay for each in gateway.tunnels)

    async def flood() -> None:
        while not relay.dropped:
            echo.sock.sendto(bytes(30_000), echo.source)
            await asyncio.sleep(0)

    await asyncio.wait_for(flood(), PATIENCE)
    assert len(gateway.tunnels)
    waiting = next(iter(gateway.tunnels)).transport.get_write_buffer_size()
    assert waiting < 1 << 20
    tunnel.writer.transport.resume_reading()
    assert await tunnel.receive() == bytes(30_000)


async def test_a_dropped_lease_cuts_it_at_once(gateway: Any, tunnel: Tunnel, echo: Echo, eventually: Any) -> None:
    tunnel.send(b"hello")
    assert await tunnel.receive() == b"hello"
    ended = gateway.apply(LeaseDrop(seq=2, session=ALICE, code="revoked", sentence="gone"))
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait(ended)
        with pytest.raises(ConnectionError):
            await tunnel.reader.readexactly(1)
    report = await closed(gateway, eventually)
    assert (report.reason, report.bytes_up, report.bytes_down) == ("revoked", 5, 5)


async def test_one_that_becomes_tcp_is_cut(
    gateway: Any, tunnel: Tunnel, echo: Echo, make_lease: Any, eventually: Any
) -> None:
    lease = make_lease(7, permit("dns", echo.address, "tcp"))
    await asyncio.wait(gateway.apply(LeasePut(seq=3, lease=lease)))
    assert (await closed(gateway, eventually)).reason == "permit_lost"


async def test_an_ipv6_target_and_one_too_large_for_the_path(gateway: Any, dial: Any, make_lease: Any) -> None:
    there = Echo("::1")
    give(gateway, make_lease(7, permit("dns", there.address)))
    tunnel = await dial(gateway)
    assert isinstance(await tunnel.ask("dns", behind=encode_datagram(b"six")), Upgraded)
    assert await tunnel.receive() == b"six"
    assert gateway.told("tunnel.opened")[0].target == there.address
    tunnel.send(bytes(MAX_DATAGRAM), b"after")  # with its headers 19 bytes more than loopback takes in one packet
    assert await tunnel.receive() == b"after"
    assert [counts[1:] for counts in gateway.tunnels.byte_counts()] == [(3 + 5, 3 + 5, 1)]
    there.close()


UNREACHABLE = {
    "many hosts": ("239.1.2.3", "destination_ip_unroutable"),
    "a whole network": ("255.255.255.255", "destination_ip_unroutable"),
    "no name": ("nowhere.invalid", "dns_error"),
}


@pytest.mark.parametrize("target", UNREACHABLE)
async def test_a_target_that_cannot_be_reached_is_refused(
    gateway: Any, dial: Any, make_lease: Any, target: str
) -> None:
    host, error = UNREACHABLE[target]
    give(gateway, make_lease(7, permit("dns", Address(host=host, port=53))))
    answer = await (await dial(gateway)).ask("dns")
    assert (answer.status, answer.error) == (502, error)
    assert host not in answer.details
