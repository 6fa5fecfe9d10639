"""Running the two directions of a conversation side by side: it is over when one of them is."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def until_one_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs them side by side until the first ends, cancels the others, and raises what the first raised.

    Not a `TaskGroup`: until Python 3.13 one that is cancelled in the turn its task fails forgets the cancellation.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
