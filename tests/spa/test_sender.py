import asyncio
import contextlib
import os
import socket
from ipaddress import ip_address
from typing import Any

import pytest

from certs.secret import Secret
from spa.cloak import CloakName
from spa.door import wall_clock_us
from spa.errors import Unreachable
from spa.limits import MAX_DATAGRAM, MIN_DATAGRAM
from spa.packet import Knock, KnockKey, KnockKind, epoch_of, locator, open_knock
from spa.sender import Knocker, knock_and_connect, send_knock

KEY = KnockKey(Secret.fresh().reveal(), Secret.fresh().reveal())
CONTROL = KnockKind.CONTROL


def test_knocks_rise_in_time_and_look_alike_in_nothing() -> None:
    knocker = Knocker(key=KEY, kind=CONTROL, session=None, port=443, clock=lambda: 1_000_000)
    datagrams = [knocker.datagram() for _ in range(200)]
    assert [open_knock(each, KEY).time_us for each in datagrams] == list(range(1_000_000, 1_000_200))
    assert len({each[16:28] for each in datagrams}) == 200
    assert len({len(each) for each in datagrams}) > 50
    assert all(MIN_DATAGRAM <= len(each) <= MAX_DATAGRAM for each in datagrams)


def test_every_byte_looks_random() -> None:
    clock = iter(range(0, 10**18, 900_000_000)).__next__  # an epoch each
    knocker = Knocker(key=KEY, kind=CONTROL, session=None, port=443, clock=clock)
    datagrams = [knocker.datagram() for _ in range(2000)]
    for position in range(MIN_DATAGRAM):
        values = [each[position] for each in datagrams]
        assert len(set(values)) > 240, f"byte {position} takes few values"
        assert abs(sum(values) / len(values) - 127.5) < 10, f"byte {position} leans to one side"


async def test_knocks_go_on_until_the_deadline_each_with_a_later_time(block: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind((block(1), 0))
        udp.settimeout(0)
        tcp.bind((block(1), 0))  # closed: nobody listens
        with pytest.raises(Unreachable, match=r"stayed closed for 0\.7 s") as refused:
            await knock_and_connect(
                knock_to=udp.getsockname(),
                connect_to=tcp.getsockname(),
                key=KEY,
                kind=CONTROL,
                clock=wall_clock_us,
                deadline=0.7,
            )
        knocks: list[Knock] = []
        while len(knocks) < 4:
            try:
                datagram = udp.recv(2048)
            except BlockingIOError:
                break
            assert datagram[:16] == locator(KEY, epoch_of(wall_clock_us()))
            knocks.append(open_knock(datagram, KEY))
    assert refused.value.seen == "refused"
    assert isinstance(refused.value, ConnectionError)
    assert refused.value.fix
    times = [knock.time_us for knock in knocks]
    assert 2 <= len(times) <= 3, "at 0, 50 and 200 ms, on a machine that is not late by half a second"
    assert times == sorted(set(times))
    assert {knock.port for knock in knocks} == {tcp_port(refused.value)}


def tcp_port(error: Unreachable) -> int:
    return int(str(error).split(" ", 1)[0].rsplit(":", 1)[1])


@pytest.mark.parametrize(("seen_at", "named"), [("192.0.2.7", "192.0.2.7"), ("2001:db8::7", None), (None, None)])
async def test_where_nothing_connects_knocks_name_the_address_the_controller_saw(
    block: Any, seen_at: str | None, named: str | None
) -> None:
    """From 0.2 s on, a second one each time, through sockets of that family."""
    seen = None if seen_at is None else ip_address(seen_at)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        udp.bind((block(1), 0))
        udp.settimeout(0)
        tcp.bind((block(1), 0))  # closed: nobody listens
        with pytest.raises(Unreachable):
            await knock_and_connect(
                knock_to=udp.getsockname(),
                connect_to=tcp.getsockname(),
                key=KEY,
                kind=CONTROL,
                seen_at=seen,
                clock=wall_clock_us,
                deadline=0.7,
            )
        sources = [knock.source for knock in knocks_at(udp)]
        assert sources == [None, None, None] + ([] if named is None else [ip_address(named)])
        place: dict[str, Any] = {"knock_to": udp.getsockname(), "port": tcp.getsockname()[1]}
        await send_knock(**place, key=KEY, kind=CONTROL, seen_at=seen, clock=wall_clock_us)
        assert [knock.source for knock in knocks_at(udp)] == [None] + ([] if named is None else [ip_address(named)])


def knocks_at(udp: socket.socket) -> list[Knock]:
    """What has come to a socket, in the order it came."""
    knocks = []
    with contextlib.suppress(BlockingIOError):
        while True:
            knocks.append(open_knock(udp.recv(2048), KEY))
    return knocks


async def test_a_knock_that_was_lost_is_made_good_by_the_next(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    v.admission.drop("device/1")  # as good as lost
    connecting = asyncio.create_task(v.connect(v.host(2)))
    await asyncio.sleep(0.01)
    v.admission.put("device/1", v.key, frozenset({CONTROL}), wall_clock_us())
    (await connecting).close()


async def test_a_silent_port_is_told_from_a_closed_one(visit: Any) -> None:
    v = await visit(CloakName.AUTO)
    if v.door.cloak_name is CloakName.ON_DEMAND:
        pytest.skip("needs Linux and CAP_NET_ADMIN: run the tests as root")
    with pytest.raises(Unreachable, match="stayed silent") as refused:
        await v.connect(v.host(2), key=KEY, deadline=0.2)
    assert refused.value.seen == "silent"


async def test_an_unknown_host_is_named() -> None:
    places: dict[str, Any] = {"knock_to": ("no-such-host.invalid", 1), "key": KEY, "kind": CONTROL}
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid is not known"):
        await knock_and_connect(connect_to=("127.0.0.1", 1), clock=wall_clock_us, **places)
    with pytest.raises(Unreachable, match=r"no-such-host\.invalid is not known"):
        await send_knock(port=1, clock=wall_clock_us, **places)


async def test_a_knock_that_cannot_leave_says_so() -> None:
    with pytest.raises(Unreachable, match=r"no knock can be sent to 127\.0\.0\.1:9"):
        await send_knock(
            knock_to=("127.0.0.1", 9), port=1, key=KEY, kind=CONTROL, clock=wall_clock_us, local_addr=("192.0.2.1", 0)
        )
    with pytest.raises(Unreachable, match=r"there is no way to 127\.0\.0\.1:9"):
        await knock_and_connect(
            knock_to=("127.0.0.1", 9),
            connect_to=("127.0.0.1", 9),
            key=KEY,
            kind=CONTROL,
            clock=wall_clock_us,
            local_addr=("192.0.2.1", 0),
            deadline=0.05,
        )


async def test_who_gives_up_leaves_no_socket_behind(visit: Any) -> None:
    v = await visit(CloakName.ON_DEMAND)
    await asyncio.get_running_loop().getaddrinfo("127.0.0.1", 1)  # the resolver's thread and pipes are there now
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are what is compared
    for wait in (0.0, 0.001, 0.003, 0.02):
        connecting = asyncio.create_task(v.connect(v.host(2), key=KEY))
        await asyncio.sleep(wait)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - the same
