"""Running a command's coroutine: on uvloop where it exists, until it ends or a signal says so."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` to its end."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(work)


def run_until_signalled(work: Coroutine[Any, Any, None]) -> None:
    """Runs `work` until it ends; SIGINT and SIGTERM cancel it, and that is a good end."""
    run_loop(_signalled(work))


async def _signalled(work: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not stopped:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):  # a closed uvloop would swallow them, and more may follow
            loop.remove_signal_handler(number)


def _loop_factory() -> Any:
    try:
        import uvloop
    except ImportError:  # not made for every platform
        return None
    return uvloop.new_event_loop
