"""A machine whose clock is wrong: knocks carry the controller's time as soon as the machine has heard it."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.perimeter import Client
from lab.visitor import fetch

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
PAUSE = 0.1
UNREACHABLE = 3
TOLERANCE = 5
LIBRARIES = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")


class WrongClock:
    """A wall clock so many seconds ahead of the world's, for every process that gets `environment`."""

    def __init__(self, library: Path, file: Path, seconds: int) -> None:
        self._file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",  # a jump is seen at once
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
        self.set(seconds)

    def set(self, seconds: int) -> None:
        """The clock jumps."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+}s\n")
        written.rename(self._file)


@pytest.fixture
def wrong_clock(tmp_path: Path) -> Callable[[int], WrongClock]:
    found = [path for place in LIBRARIES for path in sorted(Path("/").glob(f"{place[1:]}/libfaketime.so.1"))]
    if not found:
        pytest.skip("needs libfaketime: apt-get install faketime")
    return lambda seconds: WrongClock(found[0], tmp_path / "clock", seconds)


async def machine(stage: Any, name: str, clock: WrongClock, *, enrol: bool = True) -> Client:
    await stage.perimeter.add_user(name, groups=["staff"])
    client: Client = await stage.perimeter.add_client(name, enrol=enrol, env=clock.environment)
    return client


async def reaches_the_wiki(client: Client) -> None:
    forward, host, port = await client.forward("wiki")
    assert (await fetch(host, port))[0] == 200
    await forward.stop()


async def offset(client: Client) -> float:
    return float((await client.json("status"))["clock_offset_seconds"])


async def test_a_clock_that_is_too_wrong_to_enrol_is_named(
    shared_stage: Any, wrong_clock: Callable[[int], WrongClock]
) -> None:
    clock = wrong_clock(300)
    his = await machine(shared_stage, "lost", clock, enrol=False)
    invite = (await shared_stage.perimeter.admin_json("invite", his.name))["invite"]
    await shared_stage.windows_are_closed()
    refused = await his.gloam("enrol", invite, seconds=PATIENCE)
    assert refused.code == UNREACHABLE, refused
    assert len(refused.err.strip().splitlines()) == 1, refused.err
    assert "clock" in refused.err
    skewed = await shared_stage.events("knock.refused", code="clock_skew")
    assert {event["where"] for event in skewed} == {"controller/main"}  # the administrator sees it, too
    clock.set(0)
    assert (await his.gloam("enrol", invite, seconds=PATIENCE)).code == 0  # the invite is not spent
    await his.login(his.name)
    await reaches_the_wiki(his)


async def put_right_by_the_enrolment(stage: Any, clock: WrongClock, seconds: int) -> None:
    hers = await machine(stage, f"wrong{seconds}", clock)
    await hers.login(hers.name)
    assert abs(await offset(hers) + seconds) < TOLERANCE
    await reaches_the_wiki(hers)
    device = (await hers.json("status"))["device"]
    assert not await stage.events("knock.refused", key_id=f"device/{device}")


async def test_a_hundred_seconds_ahead_are_put_right_by_the_enrolment(
    shared_stage: Any, wrong_clock: Callable[[int], WrongClock]
) -> None:
    await put_right_by_the_enrolment(shared_stage, wrong_clock(100), 100)


async def test_a_clock_that_jumps_during_a_session_is_named_until_it_is_corrected(
    shared_stage: Any, wrong_clock: Callable[[int], WrongClock]
) -> None:
    clock = wrong_clock(0)
    hers = await machine(shared_stage, "jump", clock)
    await hers.login(hers.name)
    assert await offset(hers) == 0
    await shared_stage.windows_are_closed()
    clock.set(-300)
    async with asyncio.timeout(2 * PATIENCE):
        while (done := await hers.gloam("connect", "echo:7", text="here", seconds=PATIENCE)).code:
            assert done.code == UNREACHABLE, done
            assert len(done.err.strip().splitlines()) == 1, done.err
            assert "clock" in done.err
    assert done.out == "here"
    assert abs(await offset(hers) - 300) < TOLERANCE
    assert (await hers.json("status"))["connected"]


async def test_a_correction_does_not_make_knocks_older_than_those_before_it(
    shared_stage: Any, wrong_clock: Callable[[int], WrongClock]
) -> None:
    clock = wrong_clock(0)
    hers = await machine(shared_stage, "ahead", clock)
    await hers.login(hers.name)
    clock.set(100)
    await reaches_the_wiki(hers)  # a hundred seconds are allowed: the gateway now knows of a knock in the future
    async with asyncio.timeout(PATIENCE):
        while abs(await offset(hers) + 100) > TOLERANCE:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)
    await shared_stage.windows_are_closed()
    await reaches_the_wiki(hers)
    assert not await shared_stage.events("knock.refused", code="old_time")


async def test_half_a_minute_behind_is_put_right_by_the_enrolment(
    shared_stage: Any, wrong_clock: Callable[[int], WrongClock]
) -> None:
    """The last story here: knocks from before a server's start are refused, so it has to have run for a while."""
    tail = await shared_stage.perimeter.admin("audit", "tail", "-n", "10000", "--json")
    records = [json.loads(line) for line in tail.out.splitlines()]
    started = next(datetime.fromisoformat(each["at"]) for each in records if each["kind"] == "link.opened")
    async with asyncio.timeout(PATIENCE):
        while datetime.now(UTC) - started < timedelta(seconds=31):  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)
    before = await shared_stage.events("knock.refused", code="before_start")  # of the clock that jumped back
    await put_right_by_the_enrolment(shared_stage, wrong_clock(-30), -30)
    assert await shared_stage.events("knock.refused", code="before_start") == before
