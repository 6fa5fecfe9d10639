"""The link, both real ends over real TLS on loopback; only the knock is left out."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from gateway import limits
from gateway.enforcement import Enforcement
from gateway.leases import ControllerTime, Leases
from gateway.link import Link
from wire.messages import Address, Counters, LeasePut, Permit, ServedResource, TunnelRefused

WIKI = Permit(resource="wiki", port=80, target=Address(host="10.0.0.1", port=80), protocol="tcp", policies=("grant/1",))


class RecordedKeys:
    def __init__(self) -> None:
        self.known = {}

    def set(self, key_id: Any, keys: Any) -> None:
        self.known[key_id] = keys

    def forget(self, key_id: Any) -> None:
        del self.known[key_id]


class Gateway:
    """A gateway without a door: its leases, its link, and cuts that end when the test says so."""

    def __init__(self, controllers: Any, connect: Any) -> Any:
        loop = asyncio.get_running_loop()
        self.cuts = []
        self.believed = []
        self.held_back = None
        self.keys = RecordedKeys()
        self.enforcement = Enforcement(Leases(), self.keys, self._cut, loop.time)
        self.link = Link(
            controllers,
            connect,
            self.enforcement,
            self._believe,
            counters=lambda lost: Counters(admitted=1, dropped={}, tunnels=0, leases=2, windows=0, reports_lost=lost),
            cloak=lambda: "on-demand",
            version="0.1.0",
            random=lambda: 0.1,
            clock=loop.time,
        )
        self.tasks = []

    async def _believe(self, trust: str) -> None:
        self.believed.append(trust)

    def _cut(self, cut: Any) -> Any:
        self.cuts.append(cut)
        return [] if self.held_back is None else [self.held_back]

    @property
    def sessions(self) -> Any:
        return {each.lease.session.int for each in self.enforcement.leases.held}

    def start(self) -> None:
        self.tasks = [asyncio.create_task(self.link.run()), asyncio.create_task(self.enforcement.expire_forever())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks = []


@pytest.fixture
async def gateway(controller: Any, dialler: Any) -> AsyncIterator[Any]:
    made = Gateway([controller.address], dialler)
    yield made
    await made.stop()


async def up(gateway: Any) -> None:
    gateway.start()
    async with asyncio.timeout(30):
        await gateway.link.ready.wait()


async def test_the_first_thing_a_gateway_gets_is_a_snapshot(
    controller: Any, gateway: Any, make_lease: Any, eventually: Any
) -> None:
    controller.leases = {UUID(int=7): make_lease(7, WIKI)}
    controller.served = [ServedResource(name="wiki", port=80)]
    assert not gateway.link.ready.is_set()
    await up(gateway)
    assert gateway.sessions == {7}
    assert gateway.enforcement.leases.served == tuple(controller.served)
    assert gateway.keys.known == {f"device/{UUID(int=1)}": (bytes(64),)}
    await eventually(lambda: controller.links.connected()["edge"].acknowledged == 0)
    status = controller.links.connected()["edge"]
    assert (status.version, status.cloak, status.source) == ("0.1.0", "on-demand", "127.0.0.1")
    assert [each.kind for each in controller.notes] == ["link.opened"]


async def test_a_put_returns_once_the_lease_is_in_force(controller: Any, gateway: Any, make_lease: Any) -> None:
    await up(gateway)
    assert await controller.links.put({"edge": make_lease(3)}, timeout=30) == set()
    assert gateway.sessions == {3}


async def test_a_gateway_without_a_link_lags_at_once(controller: Any, make_lease: Any) -> None:
    async with asyncio.timeout(30):
        assert await controller.links.put({"edge": make_lease(3)}, timeout=60) == {"edge"}


async def test_a_drop_is_acknowledged_only_once_the_tunnels_are_cut(
    controller: Any, gateway: Any, make_lease: Any, eventually: Any
) -> None:
    await up(gateway)
    await controller.links.put({"edge": make_lease(3)}, timeout=30)
    gateway.held_back = asyncio.get_running_loop().create_future()
    dropping = asyncio.create_task(controller.links.drop(UUID(int=3), "revoked", "why", timeout=30))
    await eventually(lambda: gateway.cuts)
    assert not (await asyncio.wait({dropping}, timeout=0.05))[0]
    gateway.held_back.set_result("revoked")
    assert await dropping == set()
    assert gateway.cuts[0].code == "revoked"


async def test_a_gateway_that_does_not_acknowledge_in_time_lags(controller: Any, gateway: Any, make_lease: Any) -> None:
    await up(gateway)
    await controller.links.put({"edge": make_lease(3)}, timeout=30)
    gateway.held_back = asyncio.get_running_loop().create_future()
    assert await controller.links.drop(UUID(int=3), "revoked", "", timeout=0.05) == {"edge"}
    gateway.held_back.set_result("")


async def test_changed_resources_reach_the_gateway(controller: Any, gateway: Any, eventually: Any) -> None:
    await up(gateway)
    controller.served = [ServedResource(name="shop", port=443)]
    await controller.links.resources_changed()
    await eventually(lambda: gateway.enforcement.leases.served == tuple(controller.served))


async def drop_the_connection(controller: Any, gateway: Any, eventually: Any) -> None:
    """Ends the WebSocket from below, as a network does."""
    link = controller.links._gateways["edge"].link
    link._request.transport.abort()
    await eventually(lambda: controller.links._gateways["edge"].link is not link)


async def test_a_lost_link_resumes_with_the_changes_it_missed(
    controller: Any, gateway: Any, make_lease: Any, eventually: Any
) -> None:
    await up(gateway)
    await controller.links.put({"edge": make_lease(1)}, timeout=30)
    stream = gateway.link._stream
    await drop_the_connection(controller, gateway, eventually)
    # Whether the gateway is back already or not: what it missed comes in order, without a snapshot.
    await controller.links.put({"edge": make_lease(2, device=2)}, timeout=0)
    await controller.links.drop(UUID(int=1), "over", "", timeout=0)
    await eventually(lambda: gateway.sessions == {2})
    await eventually(lambda: gateway.link.state.up and not gateway.link._in_outage)
    assert gateway.link._stream == stream
    assert gateway.link.state.applied == 3


async def test_who_missed_more_than_is_kept_gets_a_snapshot(
    controller: Any, gateway: Any, make_lease: Any, eventually: Any, links_maker: Any
) -> None:
    make_links, adopt = links_maker
    adopt(controller, make_links(capacity=4))
    await up(gateway)
    await controller.stop()
    await eventually(lambda: not gateway.link.state.up)
    controller.links._closing = False
    for number in range(10):
        controller.leases[UUID(int=number)] = make_lease(number)
        await controller.links.put({"edge": controller.leases[UUID(int=number)]}, timeout=0)
    await controller.start()
    await eventually(lambda: gateway.sessions == set(range(10)))
    assert gateway.link.state.applied == 10


async def test_a_restarted_controller_gives_a_snapshot_and_what_it_does_not_name_is_cut(
    controller: Any, gateway: Any, make_lease: Any, eventually: Any, links_maker: Any
) -> None:
    make_links, adopt = links_maker
    controller.leases = {UUID(int=n): make_lease(n) for n in (1, 2)}
    await up(gateway)
    await controller.stop()
    del controller.leases[UUID(int=1)]
    adopt(controller, make_links())
    await controller.start()
    await eventually(lambda: gateway.sessions == {2})
    assert [(each.session.int, each.code) for each in gateway.cuts] == [(1, "session_over")]


async def test_leases_live_through_an_outage_for_the_grace_and_no_longer(
    controller: Any, gateway: Any, make_lease: Any, eventually: Any, links_maker: Any
) -> None:
    make_links, adopt = links_maker
    adopt(controller, make_links(outage_grace=timedelta(seconds=0.6)))
    await up(gateway)
    await controller.stop()
    await eventually(lambda: not gateway.link.state.up)
    # A lease that ends soon, put where the link put it, but during the outage: its end cannot come before that.
    lease = make_lease(1, seconds=0.2)
    gateway.enforcement.apply(
        LeasePut(seq=1, lease=lease), ControllerTime(datetime.now(UTC), asyncio.get_running_loop().time())
    )
    assert gateway.enforcement.seconds_left() <= 0.8
    while datetime.now(UTC) < lease.valid_until + timedelta(seconds=0.3):
        assert gateway.sessions == {1}
        await asyncio.sleep(0.02)
    await eventually(lambda: gateway.sessions == set())
    assert datetime.now(UTC) > lease.valid_until + timedelta(seconds=0.5)  # not before the grace was over
    assert gateway.cuts[-1].code == "lease_expired"


async def test_reports_wait_for_the_link_and_keep_their_order(controller: Any, gateway: Any, eventually: Any) -> None:
    source = Address(host="192.0.2.1", port=5)
    for number in range(3):
        gateway.link.report(
            TunnelRefused(
                session=None, resource=f"r{number}", source=source, status=403, code="no_grant", at=datetime.now(UTC)
            )
        )
    gateway.link.knock_refused("device/x", "192.0.2.1", "lease")
    assert gateway.link.reports_waiting == 3
    await up(gateway)
    await eventually(lambda: controller.told("knock.refused"))
    assert [each.resource for each in controller.told("tunnel.refused")] == ["r0", "r1", "r2"]
    assert controller.told("tunnel.refused")[0].source == "192.0.2.1:5"
    assert controller.told("knock.refused")[0].where == "gateway/edge"
    assert gateway.link.reports_waiting == 0
    assert await gateway.link.told_everything(1)


async def test_counters_are_told(controller: Any, gateway: Any, eventually: Any) -> None:
    await up(gateway)
    await eventually(lambda: controller.links.connected()["edge"].counters is not None)
    assert controller.links.connected()["edge"].counters.leases == 2


async def test_a_newer_link_of_the_same_gateway_replaces_the_older(
    controller: Any, gateway: Any, dialler: Any, eventually: Any
) -> None:
    await up(gateway)
    second = Gateway([controller.address], dialler)
    try:
        await up(second)
        await eventually(lambda: [e.code for e in controller.told("link.closed")][:1] == ["replaced"])
    finally:
        await gateway.stop()
        await second.stop()


async def test_a_removed_gateway_is_disconnected_and_refused(controller: Any, gateway: Any, eventually: Any) -> None:
    await up(gateway)
    controller.links._served_by = lambda _: None
    await controller.links.resources_changed()
    await eventually(lambda: "HTTP 403" in gateway.link.state.problem)
    assert controller.told("link.closed")[0].code == "removed"


async def test_pings_keep_a_quiet_link_up_and_tell_the_controllers_time(
    controller: Any, gateway: Any, eventually: Any, links_maker: Any
) -> None:
    make_links, adopt = links_maker
    adopt(controller, make_links(ping=timedelta(seconds=0.4)))
    await up(gateway)
    for _ in range(4):  # more silence than a link without pings would survive
        last = gateway.link._time
        await eventually(lambda last=last: gateway.link._time is not last)
    assert gateway.link.state.up
    assert controller.told("link.closed") == []
    assert abs(gateway.link.time_ahead) < 10  # one clock: what a message takes to come


async def test_the_next_controller_is_tried_when_one_does_not_answer(controller: Any, dialler: Any) -> None:
    dead = controller.address.model_copy(update={"tls": Address(host="127.0.0.1", port=9)})
    gateway = Gateway([dead, controller.address], dialler)
    try:
        await up(gateway)
        assert gateway.link.state.up
    finally:
        await gateway.stop()


async def test_a_thousand_leases_come_in_one_snapshot(controller: Any, gateway: Any, make_lease: Any) -> None:
    controller.leases = {UUID(int=n): make_lease(n, WIKI, device=n) for n in range(1, 1001)}
    await up(gateway)
    assert len(gateway.sessions) == 1000


def test_the_limits_agree_with_each_other() -> None:
    assert limits.BACKOFF_FIRST < limits.BACKOFF_MOST
    assert limits.LAST_WORDS < limits.DRAIN_DEADLINE
