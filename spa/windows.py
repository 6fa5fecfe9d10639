"""Windows: which sources may open new connections at which port, until when, and by whose knock.

Laws:

1. A window is one source at one port. Each knock is a grant in it; the same knock again extends it, never adds one.
2. A window is open while one of its grants lives. It says for what (`kinds`) and for whom (`key_ids`) it stands open.
3. Nothing here touches connections: what was accepted lives on when its window closes.
4. One key holds at most so many grants: one more ends its oldest. A stolen key cannot fill the cloak.
5. What opened, closed or was extended is remembered until somebody takes note of it (`take_changed`).
6. `now` is monotonic, in seconds, and never goes back. All grants last equally long, so the oldest is the next to end.
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from spa.limits import MAX_WINDOWS_OF_KEY, WINDOW_SECONDS
from spa.packet import IPAddress, KnockKind


class Window(NamedTuple):
    """A source at a port."""

    source: IPAddress
    port: int


class _Grant(NamedTuple):
    window: Window
    kind: KnockKind
    key_id: str


class Windows:
    """The open windows of one server."""

    def __init__(self, seconds: float = WINDOW_SECONDS, most_of_key: int = MAX_WINDOWS_OF_KEY) -> None:
        self._seconds = seconds
        self._most_of_key = most_of_key
        self._deadlines: dict[_Grant, float] = {}  # in the order they end
        self._grants: dict[Window, dict[_Grant, None]] = {}  # of each window, the next to end first
        self._of_key: dict[str, dict[_Grant, None]] = {}  # the oldest first
        self._changed: set[Window] = set()
        self.versions: Counter[int] = Counter()  # open windows by IP version

    def __len__(self) -> int:
        return len(self._grants)

    def __contains__(self, window: object) -> bool:
        return window in self._grants

    @property
    def open_windows(self) -> AbstractSet[Window]:
        """All that are open, as of the last `expire`."""
        return self._grants.keys()

    def open(self, source: IPAddress, port: int, kind: KnockKind, key_id: str, now: float) -> bool:
        """Opens or extends; true if `source` had no window at `port` before."""
        window = Window(source, port)
        grant = _Grant(window, kind, key_id)
        self._deadlines.pop(grant, None)
        self._deadlines[grant] = now + self._seconds
        fresh = window not in self._grants
        if fresh:
            self.versions[source.version] += 1
        grants = self._grants.setdefault(window, {})
        grants.pop(grant, None)
        grants[grant] = None
        self._changed.add(window)
        of_key = self._of_key.setdefault(key_id, {})
        of_key.pop(grant, None)
        of_key[grant] = None
        if len(of_key) > self._most_of_key:
            self._end([next(iter(of_key))])
        return fresh

    def kinds(self, source: IPAddress, port: int, now: float) -> frozenset[KnockKind]:
        """What `source` may do at `port` now; empty: nothing, there is no window."""
        return frozenset(grant.kind for grant in self._live(source, port, now))

    def key_ids(self, source: IPAddress, port: int, now: float) -> frozenset[str]:
        """Whose knocks opened `port` for `source`."""
        return frozenset(grant.key_id for grant in self._live(source, port, now))

    def expire(self, now: float) -> frozenset[Window]:
        """Ends what is over; the windows that closed."""
        ended = []
        for grant, deadline in self._deadlines.items():
            if deadline > now:
                break
            ended.append(grant)
        return self._end(ended)

    def spend(self, source: IPAddress, port: int) -> frozenset[Window]:
        """Ends every grant of `source` at `port`: it has what it knocked for."""
        return self._end(list(self._grants.get(Window(source, port), ())))

    def close(self, key_id: str) -> frozenset[Window]:
        """Ends every grant of `key_id`; the windows that closed."""
        return self._end(list(self._of_key.get(key_id, ())))

    def take_changed(self) -> AbstractSet[Window]:
        """The windows that opened, closed or were extended since this was last asked."""
        changed, self._changed = self._changed, set()
        return changed

    def deadline(self, source: IPAddress, port: int) -> float | None:
        """When the window of `source` at `port` ends; None: there is none."""
        grants = self._grants.get(Window(source, port))
        return self._deadlines[next(reversed(grants))] if grants else None

    def earliest_deadline(self) -> float | None:
        """When `expire` is next due; None while nothing is open."""
        return next(iter(self._deadlines.values()), None)

    def _live(self, source: IPAddress, port: int, now: float) -> list[_Grant]:
        return [grant for grant in self._grants.get(Window(source, port), ()) if self._deadlines[grant] > now]

    def _end(self, ended: list[_Grant]) -> frozenset[Window]:
        closed = set()
        for grant in ended:
            del self._deadlines[grant]
            grants = self._grants[grant.window]
            del grants[grant]
            of_key = self._of_key[grant.key_id]
            del of_key[grant]
            if not of_key:
                del self._of_key[grant.key_id]
            self._changed.add(grant.window)
            if not grants:
                del self._grants[grant.window]
                self.versions[grant.window.source.version] -= 1
                closed.add(grant.window)
        return frozenset(closed)
