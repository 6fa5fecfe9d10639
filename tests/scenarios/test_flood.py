"""An attack, and somebody at work meanwhile: garbage, and handshakes that never go on, from next door too.

Smaller than what `make bench` measures (bench/flood.py): here it matters that everybody gets in, not how fast.
"""

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lab.addresses import KNOCK_PORT, place
from lab.perimeter import Perimeter
from lab.processes import Process
from lab.visitor import fetch
from tests.scenarios.intruder import untroubled

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE = 3_000
HALF_OPEN = 600
NEXT_DOOR = "127.0.0.1"  # where connections to loopback addresses come from unless they are bound: Alice's, too
VISITS = 10


@contextlib.asynccontextmanager
async def attacker(perimeter: Perimeter, name: str, *arguments: str) -> AsyncIterator[Process]:
    """A process of the lab's that attacks until the block ends."""
    argv = [sys.executable, "-m", f"lab.{name}", *arguments]
    process = await Process.start(name, argv, log=perimeter.directory / f"{name}.log")
    try:
        await process.ready()
        yield process
    finally:
        await process.kill()


@pytest.mark.parametrize("next_door", [False, True], ids=["from many addresses", "behind the same address"])
async def test_everybody_gets_in_while_others_attack(shared_stage: Any, *, next_door: bool) -> None:
    perimeter = shared_stage.perimeter
    alice, mallory = await shared_stage.person(), await shared_stage.person()
    edge = place(perimeter.gateways["edge"], KNOCK_PORT)
    before = (await perimeter.gateway_status("edge"))["counters"]
    addresses = [NEXT_DOOR] if next_door else [perimeter.block.address(200 + number) for number in range(16)]
    squatting = (str(mallory.state), "wiki", str(HALF_OPEN), *addresses)
    async with (
        attacker(perimeter, "garbage", edge, str(RATE), perimeter.block.stranger) as garbage,
        attacker(perimeter, "squatter", *squatting) as squatter,
    ):
        forward, host, port = await alice.forward("wiki")
        for _ in range(VISITS):
            assert (await fetch(host, port))[0] == 200
        assert garbage.running
        assert squatter.running
        counters = (await perimeter.gateway_status("edge"))["counters"]
        await forward.stop()
    assert counters["dropped.locator"] > before.get("dropped.locator", 0)
    assert counters["accepted"] - before.get("accepted", 0) > HALF_OPEN
    assert counters["workers_lost"] == 0
    untroubled(perimeter.processes["gateway-edge"].log)
