"""Timers by name: what has to happen later, once each."""

import asyncio
from collections.abc import Callable


class Timers:
    """One timer a name; setting it again moves it."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._handles

    def set(self, name: str, delay: float, action: Callable[[], None]) -> None:
        """`action` runs in `delay` seconds."""

        def run() -> None:
            del self._handles[name]
            action()

        if name in self._handles:
            self._handles[name].cancel()
        self._handles[name] = asyncio.get_running_loop().call_later(max(delay, 0.0), run)

    def cancel(self) -> None:
        """None of them runs any more."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
