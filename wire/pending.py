"""Handshakes in progress: how many there may be, and which gives way when there are more.

Laws:

1. At most `total` at a time, and at most `per_source` of one source. A source is an IPv4 address or an IPv6 /64, which
   is what one customer is given: whoever has one address of it has them all.
2. The newest is always let in, so nobody can lock others out by holding what there is. What gives way belongs to the
   newcomer's own source if that has its fill, else to the source that holds most.
3. Of that source the oldest goes that has not said a word: an honest client speaks first, and at once. Where all have
   spoken, the one that spoke first. Between sources that hold equally many, one with a silent one gives way first.
4. Every step takes the same time, however many there are: a flood must not make its own defence dear.
"""

from collections.abc import Hashable, Iterator
from ipaddress import IPv6Address, ip_address
from typing import Final, Generic, TypeVar

_CUSTOMER: Final = 64  # bits of an IPv6 address that are the network's (RFC 4291 section 2.5.1)

T = TypeVar("T", bound=Hashable)


class _Of(Generic[T]):
    """What one source holds, the oldest first."""

    __slots__ = ("silent", "spoken")

    def __init__(self) -> None:
        self.silent: dict[T, None] = {}
        self.spoken: dict[T, None] = {}

    def __len__(self) -> int:
        return len(self.silent) + len(self.spoken)

    def next_to_go(self) -> T:
        return next(iter(self.silent or self.spoken))


class _Level:
    """The sources that hold equally many; those with a silent one apart. The first to have come here is first."""

    __slots__ = ("all_spoken", "with_silent")

    def __init__(self) -> None:
        self.with_silent: dict[str, None] = {}
        self.all_spoken: dict[str, None] = {}

    def __bool__(self) -> bool:
        return bool(self.with_silent or self.all_spoken)


class Pending(Generic[T]):
    """The handshakes one server has not finished, by where they come from."""

    def __init__(self, total: int, per_source: int) -> None:
        self._total = total
        self._per_source = per_source
        self._source: dict[T, str] = {}
        self._held: dict[str, _Of[T]] = {}
        self._levels: dict[int, _Level] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[T]:
        """All of them, the oldest first; taking some out meanwhile does no harm."""
        return iter(list(self._source))

    def add(self, member: T, host: str) -> T | None:
        """Takes `member` of the address `host` in; answers the one that gave way for it, which is out already."""
        source = source_of(host)
        own = self._held.get(source)
        gone: T | None = None
        if own is not None and len(own) >= self._per_source:
            gone = own.next_to_go()
        elif len(self._source) >= self._total:
            gone = self._largest().next_to_go()
        if gone is not None:
            self.discard(gone)
        self._source[member] = source
        self._unplace(source)
        self._held.setdefault(source, _Of()).silent[member] = None
        self._place(source)
        return gone

    def spoke(self, member: T) -> None:
        """`member` has said something. One that is not here is no error."""
        source = self._source.get(member)
        if source is None or member not in self._held[source].silent:
            return
        self._unplace(source)
        held = self._held[source]
        del held.silent[member]
        held.spoken[member] = None
        self._place(source)

    def discard(self, member: T) -> None:
        """`member` is done, or gone. One that is not here is no error."""
        source = self._source.pop(member, None)
        if source is None:
            return
        self._unplace(source)
        held = self._held[source]
        held.silent.pop(member, None)
        held.spoken.pop(member, None)
        if held:
            self._place(source)
        else:
            del self._held[source]

    def _place(self, source: str) -> None:
        held = self._held[source]
        level = self._levels.setdefault(len(held), _Level())
        (level.with_silent if held.silent else level.all_spoken)[source] = None
        self._most = max(self._most, len(held))

    def _unplace(self, source: str) -> None:
        held = self._held.get(source)
        if held is None:
            return
        level = self._levels[len(held)]
        (level.with_silent if held.silent else level.all_spoken).pop(source)
        if not level:
            del self._levels[len(held)]

    def _largest(self) -> _Of[T]:
        while self._most not in self._levels:  # sources shrink one at a time, so this has few steps to go
            self._most -= 1
        level = self._levels[self._most]
        return self._held[next(iter(level.with_silent or level.all_spoken))]


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
