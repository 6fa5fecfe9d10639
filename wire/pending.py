"""Peers not verified yet: how many there may be, and which gives way when there are more.

Laws:

1. There are two rooms: one for peers that have not said a word, who cost little, and one for those in the middle of
   their handshake, who hold memory of OpenSSL's. Each has a bound in all and a bound for one source.
2. A source is an IPv4 address or an IPv6 /64, which is what one customer is given: whoever has one address of it has
   them all.
3. The newest is always let in, so nobody can lock others out by holding what there is. What gives way belongs to the
   newcomer's own source if that has its fill, else to the source that holds most, and is the oldest of it there.
4. Every step takes the same time, however many there are: a flood must not make its own defence dear.
"""

from collections.abc import Hashable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T", bound=Hashable)

_CUSTOMER: Final = 64  # bits of an IPv6 address that are the network's (RFC 4291 section 2.5.1)


class Bounds(NamedTuple):
    """How many a room takes, in all and of one source."""

    total: int
    per_source: int


class Room(Generic[T]):
    """Members by source."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._source: dict[T, str] = {}  # the oldest first, as everything below
        self._held: dict[str, dict[T, None]] = {}
        self._levels: dict[int, dict[str, None]] = {}  # the sources that hold so many
        self._most = 0

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[T]:
        return iter(list(self._source))

    def source(self, member: T) -> str | None:
        """Where a member is from; None: it is not here."""
        return self._source.get(member)

    def enter(self, member: T, source: str) -> T | None:
        """Takes `member` in; answers the one that gave way for it, which is out already."""
        own = self._held.get(source, {})
        gone: T | None = None
        if len(own) >= self._bounds.per_source:
            gone = next(iter(own))
        elif len(self._source) >= self._bounds.total:
            while self._most not in self._levels:  # sources shrink one at a time, so this has few steps to go
                self._most -= 1
            gone = next(iter(self._held[next(iter(self._levels[self._most]))]))
        if gone is not None:
            self.leave(gone)
        self._source[member] = source
        held = self._held.setdefault(source, {})
        self._move(source, len(held), len(held) + 1)
        held[member] = None
        return gone

    def leave(self, member: T) -> None:
        """`member` is done, or gone. One that is not here is no error."""
        source = self._source.pop(member, None)
        if source is None:
            return
        held = self._held[source]
        self._move(source, len(held), len(held) - 1)
        del held[member]
        if not held:
            del self._held[source]

    def _move(self, source: str, before: int, after: int) -> None:
        if before:
            level = self._levels[before]
            del level[source]
            if not level:
                del self._levels[before]
        if after:
            self._levels.setdefault(after, {})[source] = None
            self._most = max(self._most, after)


class Pending(Generic[T]):
    """Both rooms of one server."""

    def __init__(self, silent: Bounds, speaking: Bounds) -> None:
        self._silent: Room[T] = Room(silent)
        self._speaking: Room[T] = Room(speaking)

    def __len__(self) -> int:
        return len(self._silent) + len(self._speaking)

    def __iter__(self) -> Iterator[T]:
        """All of them; taking some out meanwhile does no harm."""
        return iter([*self._silent, *self._speaking])

    def add(self, member: T, host: str) -> T | None:
        """A newcomer from the address `host`, silent as yet; answers the one that gave way for it."""
        return self._silent.enter(member, source_of(host))

    def spoke(self, member: T) -> T | None:
        """`member` has said its first word; answers the one that gave way for it. One that is not here is no error."""
        source = self._silent.source(member)
        if source is None:
            return None
        self._silent.leave(member)
        return self._speaking.enter(member, source)

    def discard(self, member: T) -> None:
        """`member` is done, or gone. One that is not here is no error."""
        self._silent.leave(member)
        self._speaking.leave(member)


@lru_cache(maxsize=4096)
def source_of(host: str) -> str:
    """What counts as one source: an IPv4 address, the /64 of an IPv6 one; text that is neither counts as itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> _CUSTOMER << _CUSTOMER)}/{_CUSTOMER}"
