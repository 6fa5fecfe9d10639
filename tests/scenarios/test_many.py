"""Many at once: two gateways, two people, ten resources, two hundred tunnels; and one gateway the less."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from lab.perimeter import Client
from lab.visitor import fetch, hold_open

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
AT_A_TIME = 4
TUNNELS = 200
ALLOWED, DENIED = 0, 4
_HOUR = (datetime.now(UTC).hour + 6) % 23
NOT_NOW = ("--hours", f"Mon-Sun {_HOUR:02}:00-{_HOUR + 1:02}:00 Etc/UTC")

RESOURCES: dict[str, tuple[list[str], list[str], set[str]]] = {
    # through which gateways, by which grant, who therefore reaches it: Ann is staff, Bob is not
    "ledger": (["edge"], ["--group", "staff"], {"ann"}),
    "plans": (["west"], ["--group", "staff"], {"ann"}),
    "rota": (["edge", "west"], ["--group", "staff"], {"ann"}),
    "vault": (["edge"], ["--user", "bob"], {"bob"}),
    "forge": (["west"], ["--user", "bob"], {"bob"}),
    "atlas": (["edge", "west"], ["--user", "ann"], {"ann"}),
    "lounge": (["west"], ["--group", "everyone"], {"ann", "bob"}),
    "attic": (["edge"], [], set()),
    "cellar": (["edge", "west"], [], set()),
    "night": (["west"], ["--group", "everyone", *NOT_NOW], set()),
}


@dataclass
class World:
    """The stage with a second gateway, Ann and Bob, and the ten resources."""

    stage: Any
    people: dict[str, Client]
    targets: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(shared_stage: Any) -> AsyncIterator[World]:
    perimeter = shared_stage.perimeter
    await perimeter.add_gateway("west")
    await perimeter.admin_json("group", "add", "everyone")
    for name, groups in (("ann", ["staff", "everyone"]), ("bob", ["everyone"])):
        await perimeter.add_user(name, groups=groups)
    row = await perimeter.start_hidden_row("ten", "name", len(RESOURCES))
    targets = dict(zip(RESOURCES, row, strict=True))
    await asyncio.gather(
        *(
            perimeter.add_resource(name, gateways=gateways, target=targets[name])
            for name, (gateways, _grant, _who) in RESOURCES.items()
        )
    )
    await asyncio.gather(
        *(
            perimeter.admin_json("grant", "add", *grant, "--resource", name)
            for name, (_gateways, grant, _who) in RESOURCES.items()
            if grant
        )
    )
    people = {}
    for name in ("ann", "bob"):
        people[name] = await perimeter.add_client(name)
        await people[name].login(name)
    yield World(shared_stage, people, targets)


async def test_who_reaches_what_is_what_explain_says_for_every_pair(world: World) -> None:
    slots = asyncio.Semaphore(AT_A_TIME)

    async def ask(user: str, resource: str) -> None:
        async with slots:
            what = ("--user", user, "--resource", resource, "--json")
            explained, reached = await asyncio.gather(
                world.stage.perimeter.admin("policy", "explain", *what),
                world.people[user].gloam("connect", resource, text="", seconds=PATIENCE),
            )
        expected = ALLOWED if user in RESOURCES[resource][2] else DENIED
        assert explained.code == expected, (user, resource, explained)
        assert json.loads(explained.out)["answer"] == ("allow" if expected == ALLOWED else "deny"), explained
        assert reached.code == expected, (user, resource, reached)
        assert reached.out == (f"{world.targets[resource]}\n" if expected == ALLOWED else ""), (user, resource)

    async with asyncio.TaskGroup() as group:
        for user in world.people:
            for resource in RESOURCES:
                group.create_task(ask(user, resource))

    reached = {(user, name) for name, (_gateways, _grant, who) in RESOURCES.items() for user in who}
    through: dict[tuple[str, str], str] = {}
    async with asyncio.timeout(PATIENCE):
        while len(through) < len(reached):  # a gateway's reports follow on their own
            opened = await world.stage.events("tunnel.opened")
            through = {(e["user"], e["resource"]): e["gateway"] for e in opened}
    assert through == {(user, name): min(RESOURCES[name][0]) for user, name in reached}
    dialled = {event["resource"]: event["target"] for event in opened}
    assert dialled == {name: world.targets[name] for _user, name in reached}


async def test_each_gateway_holds_only_what_goes_through_it(world: World) -> None:
    for gateway in ("edge", "west"):
        leases = (await world.stage.perimeter.gateway_status(gateway))["leases"]
        held = {
            lease["user"]: {each.partition(":")[0] for each in lease["resources"]} & set(RESOURCES) for lease in leases
        }
        assert held == {
            user: {name for name, (gateways, _grant, who) in RESOURCES.items() if gateway in gateways and user in who}
            for user in world.people
        }


async def test_two_hundred_tunnels_at_once_carry_every_byte(world: World) -> None:
    dice = random.Random(200)  # noqa: S311 - the same sizes and bytes every time
    near = [1, 2, 1_000, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 262_145, 1_000_003]
    contents = [dice.randbytes(dice.choice([*near, dice.randrange(1, 300_000)])) for _ in range(TUNNELS)]
    forward, host, port = await world.people["ann"].forward("echo")
    all_stand, all_counted = asyncio.Barrier(TUNNELS + 1), asyncio.Barrier(TUNNELS + 1)

    async def echoed(content: bytes) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(content[:1])
        assert await reader.readexactly(1) == content[:1]
        await all_stand.wait()
        await all_counted.wait()

        async def send() -> None:
            writer.write(content[1:])
            writer.write_eof()
            await writer.drain()

        sending = asyncio.create_task(send())
        assert await reader.read(-1) == content[1:]
        await sending
        writer.close()
        await writer.wait_closed()

    async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as group:
        for content in contents:
            group.create_task(echoed(content))
        await all_stand.wait()
        assert len(await tunnels(world, "edge", "echo")) == TUNNELS
        await all_counted.wait()
    await forward.stop()

    closed: list[dict[str, Any]] = []
    async with asyncio.timeout(PATIENCE):
        while len(closed) < TUNNELS:
            closed = await world.stage.events("tunnel.closed", user="ann", resource="echo")
    sizes = sorted(len(content) for content in contents)
    assert sorted(event["bytes_up"] for event in closed) == sizes
    assert sorted(event["bytes_down"] for event in closed) == sizes
    assert await tunnels(world, "edge", "echo") == []


async def tunnels(world: World, gateway: str, resource: str) -> list[Any]:
    status = await world.stage.perimeter.gateway_status(gateway)
    return [each for each in status["tunnels"] if each["resource"] == resource]


@asynccontextmanager
async def killed(world: World, gateway: str) -> AsyncIterator[None]:
    """Inside, the gateway is gone; afterwards it is back."""
    await world.stage.perimeter.processes[f"gateway-{gateway}"].kill()
    yield
    await world.stage.perimeter.start_gateway(gateway)


async def test_a_killed_gateway_leaves_the_way_through_the_other(world: World) -> None:
    perimeter, ann = world.stage.perimeter, world.people["ann"]
    await perimeter.add_resource("twice", gateways=["edge", "west"])
    await perimeter.admin_json("grant", "add", "--user", "ann", "--resource", "twice")
    forward, host, port = await ann.forward("twice")
    began = asyncio.Event()
    held = asyncio.create_task(hold_open(host, port, began))
    await asyncio.wait_for(began.wait(), PATIENCE)
    assert len(await tunnels(world, "edge", "twice")) == 1

    async with killed(world, "edge"):
        await asyncio.wait_for(held, PATIENCE)  # a stream through it is lost, and says so
        async with asyncio.timeout(PATIENCE):
            assert (await fetch(host, port))[0] == 200  # the same forward, the next connection
        began.clear()
        held = asyncio.create_task(hold_open(host, port, began))
        await asyncio.wait_for(began.wait(), PATIENCE)
        assert len(await tunnels(world, "west", "twice")) == 1
        atlas = await ann.gloam("connect", "atlas", text="", seconds=PATIENCE)
        assert (atlas.code, atlas.out) == (ALLOWED, f"{world.targets['atlas']}\n"), atlas.err
        alone = await ann.gloam("connect", "ledger", text="", seconds=PATIENCE)  # behind the dead gateway only
        assert alone.code == 3
        assert len(alone.err.strip().splitlines()) == 1

    ledger = await ann.gloam("connect", "ledger", text="", seconds=PATIENCE)
    assert (ledger.code, ledger.out) == (ALLOWED, f"{world.targets['ledger']}\n"), ledger.err
    assert not held.done()  # the other gateway's return disturbs nobody
    held.cancel()
    await forward.stop()
