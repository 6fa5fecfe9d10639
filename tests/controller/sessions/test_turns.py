import asyncio

import pytest

from controller.sessions.turns import Turns


async def test_a_burst_of_wishes_is_two_runs() -> None:
    runs = []
    began, gate = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        runs.append(len(runs))
        began.set()
        await gate.wait()

    turns = Turns(work)
    asked = [asyncio.create_task(turns()) for _ in range(100)]
    await began.wait()
    later = [asyncio.create_task(turns()) for _ in range(100)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*asked, *later)
    assert len(runs) == 2


async def test_a_run_that_fails_covers_nobody() -> None:
    fails = True

    async def work() -> None:
        if fails:
            raise OSError

    turns = Turns(work)
    with pytest.raises(OSError):  # noqa: PT011
        await turns()
    fails = False
    await turns()
