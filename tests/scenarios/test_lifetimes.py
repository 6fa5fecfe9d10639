"""Certificates end; sessions that are looked after do not, and the others do."""

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from lab.visitor import fetch, hold_open

LIFETIME = 6  # seconds; renewed at half, so a machine may be late by three
RENEWALS = 2
PATIENCE = 60


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
        await asyncio.wait_for(held, PATIENCE)
        os.kill(agent, signal.SIGCONT)
        ended = await stage.events("session.ended")
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
