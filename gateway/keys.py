"""The knock keys of leases in the door's admission.

1. A key is admitted for tunnels alone, and only while a lease holds it (`leases.SetKeys`, `ForgetKeys`).
2. Forgetting a key also closes the windows it opened (`forgotten` is told the key id).
3. While a device's secret changes its lease has two keys, the new one first: both are admitted, under one key id.
"""

from collections.abc import Callable, Mapping
from typing import Final

from spa.admission import Admission
from spa.packet import KnockKey, KnockKind

TUNNEL: Final = frozenset({KnockKind.TUNNEL})


class LeaseKeys:
    """`gateway.enforcement.Keys` on an admission; `wall_us` is the clock that knocks are judged by."""

    def __init__(self, admission: Admission, wall_us: Callable[[], int], forgotten: Callable[[str], None]) -> None:
        self._admission = admission
        self._wall_us = wall_us
        self._forgotten = forgotten
        self._known: dict[str, tuple[bytes, ...]] = {}

    @property
    def known(self) -> Mapping[str, tuple[bytes, ...]]:
        """Key ids admitted now, with their keys."""
        return self._known

    def set(self, key_id: str, keys: tuple[bytes, ...]) -> None:
        """These, and no others, are the keys known as `key_id`."""
        if self._known.get(key_id) == keys:
            return
        self._known[key_id] = keys
        first, *others = map(KnockKey.from_bytes, keys)
        self._admission.put(key_id, first, TUNNEL, self._wall_us())
        for other in others:
            self._admission.put_also(key_id, other, TUNNEL, self._wall_us())

    def forget(self, key_id: str) -> None:
        """Nobody knocks as `key_id` any more."""
        if self._known.pop(key_id, None) is not None:
            self._admission.drop(key_id)
            self._forgotten(key_id)
