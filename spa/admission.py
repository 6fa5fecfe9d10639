"""Admission: what a datagram opens, if anything. The one place where knocks are judged.

Laws:

1. The checks run in the protocol's order, cheapest first: length, locator, open, form, time, start, skew, kind, port,
   lease, source. The first that fails decides; there is one `Drop` and one counter for each reason, never an answer.
2. A knock is believed once; its replay, or one that is older by more than overtaking explains, never (`spa.replay`).
   A fresh knock counts as used even when a later check refuses it, or a captured one could be played again once the
   lease is there.
3. That memory outlives the key: dropped and put back, it still knows what was used, for as long as skew lets it matter.
   It goes with the key: one that is given to another id is that id's alone, and what was used stays used.
4. What does not open under a key says nothing about its holder: only a `Drop` after the seal names a `key_id`.
5. A knock opens for the address it was seen from, or for all of that address's shared network (`spa.networks`). One
   that names an address opens for that alone: it must be the one seen, or in the same shared network, or, for a tunnel,
   one that the controller has seen the session at (`session_seen_at`). So whoever catches a knock that names its source
   and sends it from elsewhere opens nothing for himself.
6. No clock and no socket: `now_us` (microseconds since 1970) and the source are handed in.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from spa.errors import DropReason, PacketError
from spa.limits import MAX_DATAGRAM, MAX_SKEW_US, MIN_DATAGRAM, ROLL_BATCH
from spa.locators import KnownKey, LocatorTable
from spa.networks import SharedNetworks
from spa.packet import KEY_BYTES, IPAddress, Knock, KnockKey, KnockKind, epoch_of, plain_address, unseal
from spa.replay import Believed, believe

__all__ = ["Admission", "Admit", "Drop", "DropReason"]


@dataclass(frozen=True, slots=True)
class Admit:
    """Open `port` for `sources` (one, unless the administrator shares a network): who asked, and for what."""

    key_id: str
    kind: KnockKind
    session: UUID | None
    sources: tuple[IPAddress, ...]
    port: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Open nothing. `key_id` is known once the knock opened; `detail` is its time minus ours, in microseconds."""

    reason: DropReason
    key_id: str | None = None
    detail: int = 0


_LENGTH = Drop(DropReason.LENGTH)
_LOCATOR = Drop(DropReason.LOCATOR)


def _nowhere(_session: UUID, _address: IPAddress) -> bool:
    """No session was seen anywhere: a named source must be the one a knock comes from."""
    return False


class Admission:
    """Who may knock at this server.

    `lease_live(key_id, session)` says whether a tunnel knock has a lease behind it, `session_seen_at(session, address)`
    whether the controller has seen that session's client there.
    """

    def __init__(
        self,
        *,
        started_us: int,
        kinds: frozenset[KnockKind],
        ports: frozenset[int],
        lease_live: Callable[[str, UUID], bool],
        session_seen_at: Callable[[UUID, IPAddress], bool] = _nowhere,
        shared: SharedNetworks | None = None,
    ) -> None:
        self._started_us = started_us
        self._kinds = kinds
        self._ports = set(ports)
        self._lease_live = lease_live
        self._session_seen_at = session_seen_at
        self.shared = shared or SharedNetworks()
        self._table = LocatorTable()
        self._keys: dict[str, KnownKey] = {}  # the newest of each id
        self._retired: dict[bytes, Believed] = {}  # of keys that are gone; oldest retirement first
        self.counters: Counter[DropReason] = Counter()
        self.admitted = 0

    def __len__(self) -> int:
        """How many keys may knock."""
        return len(self._table)

    def allow_port(self, port: int) -> None:
        """`port` also names this server's door: the one it was given when it asked for any."""
        self._ports.add(port)

    def put(self, key_id: str, key: KnockKey, kinds: frozenset[KnockKind], now_us: int) -> None:
        """`key_id` knocks with `key`, for `kinds`, and with nothing else. In force at once."""
        kept = next((known for known in self._of(key_id) if known.key == key.to_bytes()), None)
        for known in self._of(key_id):
            if known is not kept:
                self._remove(known)
        if kept is None:
            self._keys.pop(key_id, None)
            self.put_also(key_id, key, kinds, now_us)
        else:
            kept.kinds, kept.older = kinds, None
            self._keys[key_id] = kept

    def put_also(self, key_id: str, key: KnockKey, kinds: frozenset[KnockKind], now_us: int) -> None:
        """`key_id` knocks with `key` besides what it has: while a new key is on its way, the old one still opens."""
        self._forget_retired(now_us)
        data = key.to_bytes()
        for known in self._of(key_id):
            if known.key == data:
                known.kinds = kinds
                return
        if (taken := self._table.holder(data)) is not None:
            self._unlink(taken)
        known = KnownKey(key_id, data, kinds, self._retired.pop(data, ()), self._keys.get(key_id))
        self._keys[key_id] = known
        self._table.add(known, epoch_of(now_us))

    def allow(self, key_id: str, kinds: frozenset[KnockKind]) -> None:
        """`key_id` knocks for `kinds` from now on, with the keys it has."""
        for known in self._of(key_id):
            known.kinds = kinds

    def drop(self, key_id: str) -> None:
        """`key_id` may not knock any more. In force at once; unknown ids are no error."""
        for known in self._of(key_id):
            self._remove(known)
        self._keys.pop(key_id, None)

    def roll(self, now_us: int, limit: int = ROLL_BATCH) -> bool:
        """Works in a new epoch, `limit` keys at most; true while there are more. To be called every few seconds."""
        self._forget_retired(now_us)
        return self._table.roll(epoch_of(now_us), limit)

    def recognise(self, datagram: bytes) -> KnownKey | Drop:
        """The key to try, or the drop (counted) of what no key of ours can have made. Costs one look-up."""
        if not MIN_DATAGRAM <= len(datagram) <= MAX_DATAGRAM:
            self.counters[DropReason.LENGTH] += 1
            return _LENGTH
        known = self._table.find(datagram)
        if known is None:
            self.counters[DropReason.LOCATOR] += 1
            return _LOCATOR
        return known

    def admit(self, datagram: bytes, source: IPAddress, now_us: int) -> Admit | Drop:
        """What `datagram`, seen from `source` at `now_us`, opens."""
        known = self.recognise(datagram)
        return known if isinstance(known, Drop) else self.judge(datagram, known, plain_address(source), now_us)

    def judge(self, datagram: bytes, known: KnownKey, source: IPAddress, now_us: int) -> Admit | Drop:
        """The same for a `known` that `recognise` has just answered, and a source in its plain form."""
        answer = self._judge(datagram, known, source, now_us)
        if isinstance(answer, Admit):
            self.admitted += 1
        else:
            self.counters[answer.reason] += 1
        return answer

    def _judge(self, datagram: bytes, known: KnownKey, source: IPAddress, now_us: int) -> Admit | Drop:
        try:
            knock = unseal(datagram, known.key[KEY_BYTES:])
        except PacketError as error:
            return Drop(error.reason, None if error.reason is DropReason.OPEN else known.key_id)
        reason = self._refusal(knock, known, source, now_us)
        if reason is not None:
            return Drop(reason, known.key_id, knock.time_us - now_us)
        sources = self.shared.together(source) if knock.source is None else (knock.source,)
        return Admit(known.key_id, knock.kind, knock.session, sources, knock.port)

    def _refusal(self, knock: Knock, known: KnownKey, source: IPAddress, now_us: int) -> DropReason | None:
        believed = believe(known.believed, knock.time_us)
        if believed is None:
            return DropReason.OLD_TIME
        if knock.time_us < self._started_us:
            return DropReason.BEFORE_START
        if abs(knock.time_us - now_us) > MAX_SKEW_US:
            return DropReason.CLOCK_SKEW
        known.believed = believed
        return self._not_permitted(knock, known, source)

    def _not_permitted(self, knock: Knock, known: KnownKey, source: IPAddress) -> DropReason | None:
        if knock.kind not in self._kinds or knock.kind not in known.kinds:
            return DropReason.KIND_NOT_ALLOWED
        if knock.port not in self._ports:
            return DropReason.PORT
        if knock.session is not None and not self._lease_live(known.key_id, knock.session):
            return DropReason.LEASE
        if knock.source is None or knock.source == source or knock.source in self.shared.together(source):
            return None
        if knock.session is not None and self._session_seen_at(knock.session, knock.source):
            return None
        return DropReason.SOURCE

    def _of(self, key_id: str) -> list[KnownKey]:
        """Every key of this id, the newest first."""
        keys, known = [], self._keys.get(key_id)
        while known is not None:
            keys.append(known)
            known = known.older
        return keys

    def _unlink(self, known: KnownKey) -> None:
        """Its id keeps its other keys."""
        left = [each for each in self._of(known.key_id) if each is not known]
        for newer, older in zip(left, [*left[1:], None], strict=False):  # nobody is behind the last
            newer.older = older
        self._keys.pop(known.key_id)
        if left:
            self._keys[known.key_id] = left[0]
        self._remove(known)

    def _remove(self, known: KnownKey) -> None:
        self._table.remove(known)
        if known.believed:
            self._retired.pop(known.key, None)
            self._retired[known.key] = known.believed

    def _forget_retired(self, now_us: int) -> None:
        while self._retired:
            key = next(iter(self._retired))
            if self._retired[key][0] + MAX_SKEW_US >= now_us:
                return
            del self._retired[key]  # skew refuses by now whatever this remembered
