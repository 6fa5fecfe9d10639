"""The perimeter on PostgreSQL, as large installations run it; and its controller killed in the middle of it all."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lab.perimeter import Perimeter
from lab.visitor import fetch, hold_open
from tests.scenarios.conftest import Stage

PAGE = (200, b"<h1>The wiki nobody can see</h1>\n")


@pytest.fixture
async def on_postgresql(postgresql_database: str) -> AsyncIterator[Stage]:
    """The usual perimeter on a database of a real PostgreSQL server, whatever other stories run on."""
    async with Perimeter(database=postgresql_database) as perimeter:
        stage = Stage(perimeter)
        await stage.set()
        yield stage


async def kinds(stage: Stage) -> list[str]:
    tail = await stage.perimeter.admin("audit", "tail", "-n", "1000", "--json")
    return [json.loads(line)["kind"] for line in tail.out.splitlines()]


async def test_a_killed_controller_comes_back_with_everything(on_postgresql: Stage) -> None:
    stage, perimeter = on_postgresql, on_postgresql.perimeter
    assert not list(perimeter.controller_state.glob("*.db*"))  # nothing of it lies anywhere else
    alice = await stage.person()
    forward, host, port = await alice.forward("wiki")
    assert await fetch(host, port) == PAGE
    refused = await alice.gloam("connect", "payroll", text="")
    assert (refused.code, "grant" in refused.err) == (4, True), refused
    session = (await perimeter.admin_json("session", "list"))[0]["id"]
    before = await kinds(stage)

    began = asyncio.Event()
    held = asyncio.create_task(hold_open(host, port, began))
    await asyncio.wait_for(began.wait(), 60)
    await perimeter.processes["controller"].kill()
    assert await fetch(host, port) == PAGE  # live sessions open tunnels while nobody decides
    await perimeter.start_controller()
    assert not held.done()  # and live tunnels noticed nothing

    assert [each["id"] for each in await perimeter.admin_json("session", "list")] == [session]
    after = await kinds(stage)
    assert after[: len(before)] == before  # what was acknowledged is there
    assert after.count("controller.started") == 2
    verified = await perimeter.admin_json("audit", "verify")
    assert (verified["intact"], verified["chains"]) == (True, 3)  # init's, and one for each of the two processes

    bob = await stage.person("bob")  # users, invites, devices, TOTP, leases: all of it works on
    his, his_host, his_port = await bob.forward("wiki")
    assert await fetch(his_host, his_port) == PAGE
    await revoked(stage, session, held)
    assert await fetch(his_host, his_port) == PAGE
    await his.stop()
    await forward.stop()
    for name in ("controller", "gateway-edge"):
        assert "Traceback" not in perimeter.processes[name].log.read_text()


async def revoked(stage: Stage, session: str, held: asyncio.Task[Any]) -> None:
    """The new controller ends the session the old one began, and its live tunnel with it."""
    async with asyncio.timeout(60):
        while (await stage.perimeter.admin_json("status"))["gateways"] != {"edge": "up"}:
            pass
    done = await stage.perimeter.admin_json("session", "revoke", session)
    assert (done["ended"], done["lagging"]) == (1, [])
    await asyncio.wait_for(held, 60)
