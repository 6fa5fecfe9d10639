"""What is killed comes back, and nothing acknowledged is lost."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lab.perimeter import Client
from lab.visitor import Cut, fetch, hold_open

PATIENCE = 30


@contextlib.asynccontextmanager
async def held_tunnel(client: Client) -> AsyncIterator[tuple[asyncio.Task[Cut], str, int]]:
    forward, host, port = await client.forward("wiki")
    began = asyncio.Event()
    held = asyncio.create_task(hold_open(host, port, began))
    await asyncio.wait_for(began.wait(), PATIENCE)
    yield held, host, port
    held.cancel()
    await forward.stop()


async def link_is(stage: Any, up: bool) -> None:  # noqa: FBT001 - reads as a sentence
    async with asyncio.timeout(PATIENCE):
        while (await stage.perimeter.gateway_status("edge"))["link"]["up"] is not up:
            pass


async def test_a_controller_killed_and_started_again_loses_nothing(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    async with held_tunnel(alice) as (held, host, port):
        await perimeter.add_user("last")  # acknowledged, and then the lights go out
        await perimeter.processes["controller"].kill()
        await link_is(stage, up=False)
        assert not held.done()
        assert (await fetch(host, port))[0] == 200  # new tunnels on the lease the gateway holds
        await perimeter.start_controller()
        assert "last" in [user["name"] for user in await perimeter.admin_json("user", "list")]
        await link_is(stage, up=True)
        assert not held.done()
        assert (await fetch(host, port))[0] == 200
        sessions = await perimeter.admin_json("session", "list")
        assert [session["user"] for session in sessions] == ["alice"]
        async with asyncio.timeout(PATIENCE):
            while not (await alice.json("status"))["connected"]:
                pass
        assert not held.done()
        await perimeter.admin_json("session", "revoke", "--user", "alice")
        await asyncio.wait_for(held, PATIENCE)
    assert (await perimeter.admin_json("audit", "verify"))["intact"]


async def test_a_session_revoked_while_the_gateway_is_away_is_cut_when_it_returns(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    async with held_tunnel(alice) as (held, _, _):
        gateway = perimeter.processes["gateway-edge"]
        gateway.send(signal.SIGSTOP)
        revoked = await perimeter.admin("session", "revoke", "--user", "alice", "--json")
        assert revoked.code == 1
        assert revoked.json["lagging"] == ["edge"]
        assert not held.done()
        gateway.send(signal.SIGCONT)
        await asyncio.wait_for(held, PATIENCE)


async def test_a_controller_that_comes_back_knows_which_gateways_it_has_not_heard(stage: Any) -> None:
    """Nobody is told that a session is cut at a gateway that may still hold its lease."""
    perimeter = stage.perimeter
    alice = await stage.person()
    async with held_tunnel(alice) as (held, _, _):
        gateway = perimeter.processes["gateway-edge"]
        gateway.send(signal.SIGSTOP)
        await perimeter.processes["controller"].kill()
        await perimeter.start_controller()
        revoked = await perimeter.admin("session", "revoke", "--user", "alice", "--json")
        assert revoked.code == 1
        assert revoked.json["lagging"] == ["edge"]
        assert not held.done()
        gateway.send(signal.SIGCONT)
        await asyncio.wait_for(held, PATIENCE)


async def test_a_gateway_killed_is_dark_and_comes_back(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    async with held_tunnel(alice) as (held, host, port):
        await perimeter.processes["gateway-edge"].kill()
        await asyncio.wait_for(held, PATIENCE)
        await perimeter.start_gateway("edge")
        assert (await fetch(host, port))[0] == 200


async def test_a_killed_agent_is_replaced_and_the_session_goes_on(stage: Any) -> None:
    alice = await stage.person()
    async with held_tunnel(alice) as (held, host, port):
        before = await alice.json("status")
        os.kill(before["agent"], signal.SIGKILL)
        assert (await fetch(host, port))[0] == 200
        async with asyncio.timeout(PATIENCE):
            while not (after := await alice.json("status"))["connected"]:
                pass
        assert after["agent"] != before["agent"]
        assert after["session"]["session"] == before["session"]["session"]
        assert not held.done()


async def test_sigterm_drains_a_gateway(stage: Any) -> None:
    perimeter = stage.perimeter
    alice = await stage.person()
    async with held_tunnel(alice) as (held, host, port):
        gateway = perimeter.processes["gateway-edge"]
        gateway.send(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            while not (await perimeter.gateway_status("edge"))["draining"]:
                pass
        assert not held.done()  # live tunnels have their time; the door is closed
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(fetch(host, port), PATIENCE)
        assert not held.done()
    assert await gateway.wait(PATIENCE) == 0
    closed: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while not closed:
            closed = await stage.events("tunnel.closed")
    assert closed[-1]["user"] == "alice"
