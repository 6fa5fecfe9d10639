"""The cloak at work: it follows the windows, is looked after, and is taken off in the end.

Laws:

1. The cloak is told of what changed at once while that is cheap, and within a fraction of a second when it is not.
2. What it could not be told is told again; what somebody else did to it is mended, and every open window told anew.
3. Every trouble is counted; the first of a kind is told at once, more of it every `TROUBLE_PAUSE` seconds.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from spa.cloak import Cloak
from spa.errors import CloakError
from spa.limits import CLOAK_CHECK, CLOAK_RETRY, TROUBLE_PAUSE, UPDATE_BATCH, UPDATE_SHARE
from spa.packet import IPAddress
from spa.timers import Timers
from spa.windows import Window, Windows


class TroubleCode(StrEnum):
    """What may happen to a cloak."""

    MENDED = "mended"
    """Somebody removed or changed it; it is up again."""
    LOST = "lost"
    """It cannot be put up again; the port is shut."""
    FULL = "full"
    """It holds no more sources; the others stay outside."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of trouble: what it was, how often since it was last told, and when."""

    code: TroubleCode
    detail: str
    count: int
    at: datetime


class Cover:
    """The cloak of one listening socket, as `Door` uses it.

    `before_shutting` is called before a cloak that listens is told to let nobody in; `on_change` after anything that
    may have changed whether it listens.
    """

    def __init__(
        self,
        cloak: Cloak,
        windows: Windows,
        port: int,
        *,
        counts: Counter[str],
        before_shutting: Callable[[], None],
        on_change: Callable[[], None],
        on_trouble: Callable[[Trouble], None],
        wall_us: Callable[[], int],
    ) -> None:
        self.cloak = cloak
        self.trouble: Trouble | None = None
        """The last one."""
        self._windows, self._port = windows, port
        self._counts = counts
        self._before_shutting, self._on_change, self._on_trouble = before_shutting, on_change, on_trouble
        self._wall_us = wall_us
        self.let_in: dict[IPAddress, float] = {}
        """Whom the cloak was told to let in, and until when."""
        self._changed: dict[IPAddress, None] = {}  # what it has not been told yet, the oldest first
        self._next_update = 0.0
        self._timers = Timers()
        self._untold: Counter[TroubleCode] = Counter()
        self._alarm: socket.socket | None = None
        self._over = False

    def start(self) -> None:
        """Looks after the cloak from now on."""
        self._alarm = self.cloak.alarm
        if self._alarm is not None:
            asyncio.get_running_loop().add_reader(self._alarm, self._check)
            self._timers.set("check", CLOAK_CHECK, self._check)

    def stop(self) -> None:
        """Takes the cloak off; the listening socket is closed by now."""
        self._over = True
        self._timers.cancel()
        if self._alarm is not None:
            asyncio.get_running_loop().remove_reader(self._alarm)
            self._alarm = None
        self.cloak.take_off()

    def room_for(self, source: IPAddress) -> bool:
        """Whether `source` can be let in; if not, that is trouble."""
        if Window(source, self._port) in self._windows:
            return True
        v4, v6 = self._windows.versions[4], self._windows.versions[6]
        is_v4 = source.version == 4  # noqa: PLR2004 - an IP version
        if self.cloak.room_for(v4 + is_v4, v6 + (not is_v4), lambda: self._sources() | {source}):
            return True
        self._tell(
            TroubleCode.FULL,
            f"{v4} IPv4 and {v6} IPv6 sources have open windows, as many as the {self.cloak.name} cloak holds: "
            "use the nftables cloak, which holds any number",
        )
        return False

    def _sources(self) -> set[IPAddress]:
        return {window.source for window in self._windows.open_windows}

    def update(self) -> None:
        """The windows may have changed."""
        if self._over:
            return
        now = asyncio.get_running_loop().time()
        self._windows.expire(now)
        self._changed.update((window.source, None) for window in self._windows.take_changed())
        if self._changed:
            if (wait := self._next_update - now) > 0:
                self._timers.set("update", wait, self.update)
            else:
                self._tell_cloak()
        deadline = self._windows.earliest_deadline()
        if deadline is not None and "expire" not in self._timers:
            self._timers.set("expire", deadline - now, self.update)

    def _tell_cloak(self) -> None:
        loop = asyncio.get_running_loop()
        before = loop.time()
        changed = list(islice(self._changed, UPDATE_BATCH))
        for source in changed:
            deadline = self._windows.deadline(source, self._port)
            if deadline is None:
                self.let_in.pop(source, None)
            else:
                self.let_in[source] = deadline
        if self.cloak.listening and not self.let_in:
            self._before_shutting()
        try:
            self.cloak.let_in(self.let_in, changed, before)
        except CloakError:
            self._counts["cloak_failed"] += 1
            self._timers.set("update", CLOAK_RETRY, self.update)
        else:
            for source in changed:
                del self._changed[source]
        after = loop.time()
        self._next_update = after + UPDATE_SHARE * (after - before)
        if self._changed and "update" not in self._timers:
            self._timers.set("update", self._next_update - after, self.update)
        self._on_change()

    def _check(self) -> None:
        wait = CLOAK_CHECK
        try:
            what = self.cloak.mend()
        except CloakError as error:
            self._tell(TroubleCode.LOST, f"the port is shut: {error}; {error.fix}")
            wait = CLOAK_RETRY
        else:
            if what:
                self._tell(TroubleCode.MENDED, f"{what}; it is up again")
                self._changed.update(dict.fromkeys(self.let_in))
                self.update()
        self._timers.set("check", wait, self._check)
        self._on_change()

    # -- troubles

    def _tell(self, code: TroubleCode, detail: str) -> None:
        self._counts[f"cloak_{code}"] += 1
        self._untold[code] += 1
        self.trouble = Trouble(code, detail, self._untold[code], datetime.fromtimestamp(self._wall_us() / 1e6, UTC))
        if f"told {code}" not in self._timers:
            self._report(self.trouble)

    def _report(self, trouble: Trouble) -> None:
        del self._untold[trouble.code]
        self._timers.set(f"told {trouble.code}", TROUBLE_PAUSE, lambda: self._report_more(trouble))
        self._on_trouble(trouble)

    def _report_more(self, told: Trouble) -> None:
        """What came of the same kind since it was told, if anything."""
        if count := self._untold[told.code]:
            latest = self.trouble if self.trouble is not None and self.trouble.code is told.code else told
            self._report(Trouble(told.code, latest.detail, count, latest.at))
