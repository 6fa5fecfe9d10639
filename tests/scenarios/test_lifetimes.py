"""Certificates end; sessions that are looked after do not, and the others do."""

import asyncio
import hashlib
import os
import signal
import time
from typing import Any

import pytest

from lab.visitor import fetch, hold_open

LIFETIME = 6  # seconds; renewed at half, so a machine may be late by three
RENEWALS = 2
PATIENCE = 60


EVERYTHING = {"GLOAM_DEVICE_LIFETIME": "8s", "GLOAM_SERVICE_LIFETIME": "8s", "GLOAM_SESSION_LIFETIME": "6s"}
LIFETIMES = 3
LONGEST = 8
BLOCK = 16_384
TUNNELS = 4


async def checksummed(host: str, port: int, over: asyncio.Event) -> int:
    """One tunnel to the echo, with fresh bytes in it until `over`; every byte comes back, and then the end."""
    reader, writer = await asyncio.open_connection(host, port)
    sent, received, blocks = hashlib.sha256(), hashlib.sha256(), 0
    while not over.is_set():
        block = os.urandom(BLOCK)
        sent.update(block)
        writer.write(block)
        received.update(await asyncio.wait_for(reader.readexactly(BLOCK), PATIENCE))
        blocks += 1
        await asyncio.sleep(0.02)  # the machine has other things to do
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    writer.close()
    assert sent.digest() == received.digest()
    return blocks


async def test_everything_lives_three_lifetimes_with_traffic_flowing(make_stage: Any) -> None:
    """Controller, gateway, device and session: no tunnel is lost, no knock is refused, nobody is asked for anything."""
    async with make_stage(settings=EVERYTHING) as stage:
        alice = await stage.person()
        began, over = time.monotonic(), asyncio.Event()
        echo, *echo_at = await alice.forward("echo")
        wiki, *wiki_at = await alice.forward("wiki")
        held = [asyncio.create_task(checksummed(*echo_at, over)) for _ in range(TUNNELS)]
        ends: dict[str, set[str]] = {"controller": set(), "gateway": set(), "device": set(), "session": set()}
        while time.monotonic() < began + LIFETIMES * LONGEST or min(map(len, ends.values())) <= LIFETIMES:
            assert time.monotonic() < began + PATIENCE
            assert (await fetch(*wiki_at))[0] == 200
            status = await alice.json("status")
            assert status["session"], status["ended"]
            ends["session"].add(status["session"]["valid_until"])
            ends["device"].add(status["certificate"]["expires"])
            ends["gateway"].add((await stage.perimeter.gateway_status("edge"))["certificate"]["expires"])
            ends["controller"].add((await stage.perimeter.admin_json("status"))["certificate_until"])
            assert not any(each.done() for each in held)
        opened = [event for event in await stage.events("tunnel.opened") if event["resource"] == "echo"]
        closed = [event for event in await stage.events("tunnel.closed") if event["resource"] == "echo"]
        assert (len(opened), len(closed)) == (TUNNELS, 0)
        over.set()
        assert min(await asyncio.gather(*held)) > 0
        for kind in ("session.ended", "renewal.refused", "knock.refused"):
            assert await stage.events(kind) == []
        for each in ("gateway/edge", f"device/{status['device']}"):
            assert len(await stage.events("key.replaced", holder=each)) >= LIFETIMES
            assert not [event for event in await stage.events("certificate.renewed", holder=each) if event["recovered"]]
        counters = [(await stage.perimeter.admin_json("status"))["counters"]]
        counters.append((await stage.perimeter.gateway_status("edge"))["counters"])
        assert not [name for counted in counters for name in counted if name.startswith("dropped.")]
        for forward in (echo, wiki):
            await forward.stop()


async def test_a_session_outlives_its_certificates_with_traffic_flowing(make_stage: Any) -> None:
    async with make_stage(settings={"GLOAM_SESSION_LIFETIME": f"{LIFETIME}s"}) as stage:
        alice = await stage.person()
        forward, host, port = await alice.forward("wiki")
        began = asyncio.Event()
        held = asyncio.create_task(hold_open(host, port, began))
        await asyncio.wait_for(began.wait(), PATIENCE)
        certificates = {(await alice.json("status"))["session"]["valid_until"]}
        async with asyncio.timeout(PATIENCE):
            while len(certificates) < RENEWALS + 1:
                assert (await fetch(host, port))[0] == 200
                certificates.add((await alice.json("status"))["session"]["valid_until"])
        assert not held.done()
        assert len(await stage.events("session.renewed")) >= RENEWALS
        held.cancel()
        await forward.stop()


async def test_a_session_nobody_renews_ends_and_its_tunnels_are_cut(make_stage: Any) -> None:
    async with make_stage(settings={"GLOAM_SESSION_LIFETIME": f"{LIFETIME}s"}) as stage:
        alice = await stage.person()
        forward, host, port = await alice.forward("wiki")
        began = asyncio.Event()
        held = asyncio.create_task(hold_open(host, port, began))
        await asyncio.wait_for(began.wait(), PATIENCE)
        agent = (await alice.json("status"))["agent"]
        os.kill(agent, signal.SIGSTOP)
        try:
            await asyncio.wait_for(held, PATIENCE)
            async with asyncio.timeout(PATIENCE):
                while not (ended := await stage.events("session.ended")):  # the gateway has a clock of its own
                    pass
        finally:
            os.kill(agent, signal.SIGCONT)
        assert [event["code"] for event in ended] == ["expired"]
        await forward.stop()


@pytest.mark.parametrize("grace", [3])
async def test_an_outage_of_the_controller_is_survived_for_the_grace_and_no_longer(make_stage: Any, grace: int) -> None:
    settings = {"GLOAM_SESSION_LIFETIME": f"{LIFETIME}s", "GLOAM_OUTAGE_GRACE": f"{grace}s"}
    async with make_stage(settings=settings) as stage:
        alice = await stage.person()
        forward, host, port = await alice.forward("wiki")
        began = asyncio.Event()
        held = asyncio.create_task(hold_open(host, port, began))
        await asyncio.wait_for(began.wait(), PATIENCE)
        await stage.perimeter.processes["controller"].kill()
        killed = time.monotonic()
        (lease,) = (await stage.perimeter.gateway_status("edge"))["leases"]
        cut = await asyncio.wait_for(held, PATIENCE)
        # Nobody renews it now: it ends when it says, and the tunnel a grace later. "No longer" is that it ends at all.
        assert cut.at - killed > lease["seconds_left"] + grace - 0.5
        await forward.stop()


async def test_a_grant_that_expires_cuts_what_it_allowed(stage: Any) -> None:
    alice = await stage.person()
    await stage.perimeter.admin_json("grant", "add", "--user", "alice", "--resource", "payroll", "--expires", "5s")
    forward, host, port = await alice.forward("payroll")
    began = asyncio.Event()
    held = asyncio.create_task(hold_open(host, port, began))
    await asyncio.wait_for(began.wait(), PATIENCE)
    await asyncio.wait_for(held, PATIENCE)
    await forward.stop()
    refused = await alice.gloam("connect", "payroll", text="")
    assert refused.code == 4
    assert "Your grant on payroll ended" in refused.err
