import asyncio
import errno
import resource
import secrets
import socket
import sys
import tracemalloc
from ipaddress import ip_address
from typing import Any

import pytest

from spa.cloak import CloakName
from spa.cover import Trouble, TroubleCode
from spa.errors import DoorError, Unreachable
from spa.limits import DRAIN_BATCH
from spa.packet import KnockKind
from spa.windows import Windows
from tests.spa.visit import SILENCE, accepted, dark, datagram, needs, passes_bytes, scan, send, until

CLOAKS = pytest.mark.parametrize("cloak", [CloakName.NFTABLES, CloakName.SOCKET_FILTER, CloakName.ON_DEMAND])


@pytest.fixture(autouse=True)
def _cloak_works(request: pytest.FixtureRequest) -> None:
    params = getattr(request.node, "callspec", None)
    if params is not None and "cloak" in params.params:
        needs(params.params["cloak"])


@CLOAKS
async def test_who_knocked_connects_and_nobody_else(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak)
    assert v.door.cloak_name is cloak
    assert await scan(v.door.bound_listen, v.host(250)) == dark(cloak)
    assert await scan(v.door.bound_listen, v.host(2)) == dark(cloak)

    with await v.connect(v.host(2)) as sock:
        await until(lambda: accepted(v, sock))
        there, source = accepted(v, sock)
        assert str(source.address) == v.host(2)
        assert source.port == sock.getsockname()[1]
        assert (source.kinds, source.key_ids) == ({KnockKind.CONTROL}, {"device/1"})
        assert there.gettimeout() == 0.0
        assert await passes_bytes(v, sock)
        assert await scan(v.door.bound_listen, v.host(250)) == ("filtered" if dark(cloak) == "filtered" else "reset")
        assert await passes_bytes(v, sock)
    assert v.door.counters["admitted"] == len(v.admits) >= 1


@CLOAKS
async def test_the_end_of_a_window_closes_the_port_and_touches_no_connection(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak, windows=Windows(1.0))
    with await v.connect(v.host(2)) as sock:
        await until(lambda: accepted(v, sock) and not v.door._cover.let_in)
        assert await scan(v.door.bound_listen, v.host(2)) == dark(cloak)
        assert await passes_bytes(v, sock)
        with await v.connect(v.host(3)):
            await until(lambda: v.came[-1][1].address == ip_address(v.host(3)))
        await until(lambda: not v.door._cover.let_in)
        assert await passes_bytes(v, sock)


@CLOAKS
async def test_many_sources_and_many_rounds(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak)
    for _ in range(2):
        begun = len(v.came)
        sources = [v.host(host) for host in range(2, 42)]
        socks = await asyncio.gather(*(v.connect(source) for source in sources))
        await until(
            lambda begun=begun, sources=sources: {str(source.address) for _, source in v.came[begun:]} == set(sources)
        )
        for sock in socks:
            sock.close()
        v.door.close_windows("device/1")
        await until(lambda: not v.door._cover.let_in)
        assert await scan(v.door.bound_listen, v.host(2)) == dark(cloak)


async def test_a_knock_again_extends_and_never_duplicates(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    for _ in range(3):
        await send(v)
    await until(lambda: len(v.admits) == 3)
    assert len(v.door.windows) == 1
    assert len(v.door.windows._deadlines) == 1


@CLOAKS
async def test_the_end_of_a_key_closes_its_windows(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak)
    with await v.connect(v.host(2)) as sock:
        await until(lambda: accepted(v, sock))
        v.admission.drop("device/1")
        v.door.close_windows("device/1")
        await asyncio.sleep(0)
        await until(lambda: not v.door._cover.let_in)
        assert await scan(v.door.bound_listen, v.host(2)) == dark(cloak)
        assert await passes_bytes(v, sock)
    with pytest.raises(Unreachable):
        await v.connect(v.host(2), deadline=0.3)


@CLOAKS
async def test_ipv4_and_ipv6_alike_on_a_dual_stack_socket(visit: Any, cloak: CloakName) -> None:
    try:
        v = await visit(cloak, ("::", 0))
    except DoorError:
        pytest.skip("needs IPv6 on the loopback interface: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    listen, knock = v.door.bound_listen.port, v.door.bound_knock.port
    here = v.host(1)
    assert await scan(("::1", listen), "::1") == dark(cloak)
    assert await scan((here, listen), v.host(2)) == dark(cloak)
    with await v.connect("::1", knock_to=("::1", knock), connect_to=("::1", listen)) as sock:
        await until(lambda: accepted(v, sock))
        assert accepted(v, sock)[1].address == ip_address("::1")
        assert await passes_bytes(v, sock)
        assert await scan((here, listen), v.host(2)) in {"filtered", "reset"}
    with await v.connect(v.host(2), knock_to=(here, knock), connect_to=(here, listen)) as sock:
        await until(lambda: accepted(v, sock))
        assert await passes_bytes(v, sock)
        assert await scan((here, listen), v.host(3)) in {"filtered", "reset"}


async def test_nothing_answers_a_datagram_whatever_it_holds(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    loop = asyncio.get_running_loop()
    good = datagram(v)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0)
        probe.bind((v.host(2), 0))
        probe.connect(v.door.bound_knock)
        for each in [b"", b"x", *(secrets.token_bytes(n) for n in range(80, 200)), good[:-1], good, good]:
            probe.send(each)  # an ICMP error would be raised here
        await until(lambda: v.drops)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SILENCE):
                await loop.sock_recv(probe, 2048)
        probe.send(b"x")
    assert v.drops[0][0].reason == "old_time"
    assert "dropped.length" not in v.door.counters, "the kernel drops impossible lengths"
    assert v.door.counters["dropped.locator"] == 97


async def test_a_knock_still_in_the_queue_counts_for_the_connection_behind_it(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    with await v.connect(v.host(2)):
        for host in range(3, 23):  # the port listens for the first source: these connect without the loop's doing
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
                udp.bind((v.host(host), 0))
                udp.sendto(datagram(v), v.door.bound_knock)
                tcp.bind((v.host(host), 0))
                tcp.connect(v.door.bound_listen)
                await until(lambda host=host: v.came and v.came[-1][1].address == ip_address(v.host(host)))
    assert "reset" not in v.door.counters


async def test_replays_are_refused_and_cannot_flood_the_reports(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    good = datagram(v)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for _ in range(200):
            udp.sendto(good, v.door.bound_knock)
        await until(lambda: v.door.counters.get("dropped.old_time") == 199)
    assert len(v.drops) + v.door.counters["not_reported"] == 199
    assert len(v.drops) <= 40


async def test_on_demand_is_closed_again_soon_after_the_connection_it_opened_for(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND, windows=Windows(3600))
    with await v.connect(v.host(2)) as sock:
        await until(lambda: accepted(v, sock))
        await until(lambda: not v.door._reading)
        assert await scan(v.door.bound_listen, v.host(3)) == "closed"
        assert await passes_bytes(v, sock)
        with await v.connect(v.host(2)) as another:  # a knock of its own
            await until(lambda: accepted(v, another))


@CLOAKS
async def test_nobody_can_take_the_port_over(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak)
    for _ in range(2):
        for option in (None, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            with socket.socket() as thief:
                if option is not None:
                    thief.setsockopt(socket.SOL_SOCKET, option, 1)
                with pytest.raises(OSError, match="in use") as refused:
                    thief.bind(v.door.bound_listen)
                assert refused.value.errno == errno.EADDRINUSE
        with await v.connect(v.host(2)):
            await until(lambda: v.came)
            v.door.close_windows("device/1")
            await until(lambda: not v.door._cover.let_in)


@CLOAKS
async def test_a_door_stands_up_again_where_connections_linger(visit: Any, cloak: CloakName) -> None:
    v = await visit(cloak)
    with await v.connect(v.host(2)):
        await until(lambda: v.came)
        v.came[0][0].close()  # ours closes first: TIME_WAIT is on this side
    place = v.door.bound_listen
    await v.door.close()
    again = await visit(cloak, place)
    with await again.connect(v.host(3)):
        await until(lambda: again.came)


async def test_a_source_the_cloak_has_no_room_for_stays_outside(visit: Any) -> None:
    needs(CloakName.SOCKET_FILTER)
    troubles: list[Trouble] = []
    v = await visit(CloakName.SOCKET_FILTER, on_trouble=troubles.append)
    v.door._cover.cloak._most = 18  # two IPv4 sources
    for host in (2, 3):
        (await v.connect(v.host(host))).close()
    with pytest.raises(Unreachable):
        await v.connect(v.host(4), deadline=0.3)
    assert v.door.counters["cloak_full"] > 1
    assert [(each.code, each.count) for each in troubles] == [(TroubleCode.FULL, 1)], "the rest is counted"
    assert v.door.cloak_trouble.detail == (
        "2 IPv4 and 0 IPv6 sources have open windows, as many as the socket-filter cloak holds: "
        "use the nftables cloak, which holds any number"
    )
    (await v.connect(v.host(2))).close()


async def test_running_out_of_descriptors_pauses_and_recovers(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((v.host(2), 0))
        udp.sendto(datagram(v), v.door.bound_knock)
    await until(lambda: v.door._reading)
    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as sock:
        sock.settimeout(0)
        sock.bind((v.host(2), 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, hard))
        try:
            await loop.sock_connect(sock, v.door.bound_listen)
            await until(lambda: v.door.counters.get("exhausted"))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: v.came and v.came[-1][1].port == sock.getsockname()[1])


async def test_garbage_leaves_no_memory_behind(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    garbage = [secrets.token_bytes(91 + i) for i in range(97)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:

        async def flood(count: int) -> None:
            wanted = v.door.counters.get("dropped.locator", 0) + count
            for i in range(count):
                udp.sendto(garbage[i % len(garbage)], v.door.bound_knock)
                if i % 100 == 99:
                    await asyncio.sleep(0)
            await until(lambda: v.door.counters["dropped.locator"] == wanted)

        await flood(2000)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await flood(10_000)
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()


async def test_a_flood_starves_neither_the_loop_nor_a_knock(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    code = (
        "import os, socket, sys, time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], int(sys.argv[2])))\n"
        "d = os.urandom(120); end = time.monotonic() + 1.5\n"
        "while time.monotonic() < end: s.send(d)\n"
    )
    place = v.door.bound_knock
    flood = await asyncio.create_subprocess_exec(sys.executable, "-c", code, place.host, str(place.port))
    try:
        await until(lambda: v.door.counters.get("dropped.locator", 0) > 1000)
        for _ in range(200):  # whoever else waits for the loop gets it after a batch, not after the flood
            before = v.door.counters["dropped.locator"]
            await asyncio.sleep(0)
            assert v.door.counters["dropped.locator"] - before <= 2 * DRAIN_BATCH
        (await v.connect(v.host(2))).close()
    finally:
        await flood.wait()
    await until(lambda: v.came)


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (("192.0.2.1", 0), "Cannot assign requested address"),
        (("no-such-host.invalid", 1), "host is not known"),
    ],
)
async def test_a_door_that_cannot_stand_says_what_to_do(visit: Any, place: tuple[str, int], what: str) -> None:
    with pytest.raises(DoorError, match=what) as refused:
        await visit(CloakName.ON_DEMAND, place)
    assert refused.value.fix


async def test_a_port_in_use_is_a_clear_error_and_leaves_nothing_open(visit: Any, block: Any) -> None:
    with socket.socket() as taken:
        taken.bind((block(1), 0))
        taken.listen()
        with pytest.raises(DoorError, match=r"TCP .* cannot be bound: Address already in use") as refused:
            await visit(CloakName.ON_DEMAND, taken.getsockname())
        assert "another port" in refused.value.fix


async def test_a_closed_door_is_closed_and_may_be_closed_again(visit: Any) -> None:
    v = await visit(CloakName.AUTO)
    with await v.connect(v.host(2)) as sock:
        await until(lambda: accepted(v, sock))
        await v.door.close()
        await v.door.close()
        assert await scan(v.door.bound_listen, v.host(2)) == "closed"
        assert await passes_bytes(v, sock)
