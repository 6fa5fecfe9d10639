"""The table that finds a knock's key by its first 16 bytes, however many keys there are.

Laws:

1. Each key is found by its locators of the previous, the current and the next epoch, and by no other.
2. A key added is found at once, a key removed is gone at once; each costs three HMACs, whatever the size of the table.
3. A new epoch is worked in by `roll`, a bounded number of keys a call. Until a key's turn has come it is still found in
   the epoch that begins: its locator was put there one epoch before.
4. No call takes time proportional to the number of keys, but for one list of them at the start of a roll (0.5 ms for
   100,000). So the table is 256 small dictionaries, for a large one halts to grow; and a key is one object holding
   bytes, for the garbage collector visits every object that could hold others.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from spa.limits import LOCATOR_BYTES
from spa.packet import KEY_BYTES, KnockKind, locator_of
from spa.replay import Believed

_SHARDS: Final = 256  # chosen by the first byte of the locator, which is uniformly random


@dataclass(slots=True, eq=False)
class KnownKey:
    """A key that may knock here, what it may ask for, and which of its knocks were believed."""

    key_id: str
    key: bytes = field(repr=False)  # KnockKey.to_bytes()
    kinds: frozenset[KnockKind]
    believed: Believed = ()
    older: "KnownKey | None" = None  # another key of the same id, on its way out
    epoch: int | None = None  # the middle one of `locators`; None: not in the table
    locators: bytes = b""  # one after the other


class LocatorTable:
    """Locator → `KnownKey`."""

    def __init__(self) -> None:
        self._shards: tuple[dict[bytes, KnownKey], ...] = tuple({} for _ in range(_SHARDS))
        self._keys: dict[bytes, KnownKey] = {}  # by `KnownKey.key`
        self._epoch: int | None = None
        self._waiting: list[KnownKey] = []

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, datagram: bytes) -> KnownKey | None:
        """The key a datagram (not empty) was made with, if its locator is one of ours."""
        return self._shards[datagram[0]].get(datagram[:LOCATOR_BYTES])

    def holder(self, key: bytes) -> KnownKey | None:
        """Who has this key (`KnockKey.to_bytes()`)."""
        return self._keys.get(key)

    def add(self, known: KnownKey, epoch: int) -> None:
        """`known` is found from now on. Nobody else may have its key."""
        self._keys[known.key] = known
        self._place(known, epoch)

    def remove(self, known: KnownKey) -> None:
        """`known` is not found any more."""
        del self._keys[known.key]
        self._forget(_split(known.locators))
        known.epoch, known.locators = None, b""

    def roll(self, epoch: int, limit: int) -> bool:
        """Works in a new epoch for at most `limit` keys; true while there are more."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._waiting = list(self._keys.values())
        for _ in range(min(limit, len(self._waiting))):
            known = self._waiting.pop()
            if known.epoch is not None and known.epoch != epoch:
                self._place(known, epoch)
        return bool(self._waiting)

    def _place(self, known: KnownKey, epoch: int) -> None:
        have: dict[int, bytes] = {}
        if known.epoch is not None:
            have.update(zip(_around(known.epoch), _split(known.locators), strict=True))
        secret = known.key[:KEY_BYTES]
        want = [have.pop(each) if each in have else locator_of(secret, each) for each in _around(epoch)]
        self._forget(have.values())
        for each in want:
            self._shards[each[0]][each] = known
        known.epoch, known.locators = epoch, b"".join(want)

    def _forget(self, locators: Iterable[bytes]) -> None:
        for each in locators:
            del self._shards[each[0]][each]


def _around(epoch: int) -> range:
    return range(epoch - 1, epoch + 2)


def _split(locators: bytes) -> list[bytes]:
    return [locators[i : i + LOCATOR_BYTES] for i in range(0, len(locators), LOCATOR_BYTES)]
