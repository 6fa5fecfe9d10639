"""The event loop that gloam runs on, for those of its parts that a benchmark runs itself."""

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes it: uvloop where it exists, as in the roles."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
