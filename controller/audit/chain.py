"""Chains of audit records: each record's MAC covers the record before it.

Laws:

1. One chain a controller process; chains are numbered 1, 2, 3 … in one database, and the register (how many there are)
   is under a MAC: a chain taken out leaves a gap or a register that does not agree.
2. The MAC of record n covers the chain, n, its time, kind and text, and the MAC of record n - 1; the first one covers
   how the chain began. So a record cannot be changed, moved, added or removed without the key.
3. The head (how many records, the last MAC) is under a MAC of its own: the last records cannot be cut off.
4. The first record of a chain witnesses the heads of chains before it: those never become shorter again.

What cannot be found with the database alone: somebody who can write to it and kept an older copy can put back the
older head, register and records of a chain *since the newest chain began* (law 4 guards what is before). Compare with
a :class:`Witness` kept elsewhere, which ``audit verify`` prints, to find that too. Somebody who has the master key
can forge anything.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from certs.secret import Secret

KEY_LABEL: Final = "gloam audit chain v1"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Chain:
    """How a chain began."""

    id: UUID
    number: int
    controller: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Record:
    """A stored event: where it stands, when it was written, what it says (JSON text) and its MAC."""

    seq: int
    at: datetime
    kind: str
    event: str
    mac: bytes


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of a chain: how many records, and the MAC of the last one."""

    length: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Witness:
    """What is known of a chain from elsewhere: it had ``length`` records, and that one's MAC was ``mac``."""

    chain: UUID
    length: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was done to the records: which chain (its number), which record (0: the chain), and what."""

    number: int
    chain: UUID | None
    seq: int
    why: str

    def __str__(self) -> str:
        name = f"chain {self.number}" + (f" ({self.chain})" if self.chain else "")
        return f"record {self.seq} of {name} {self.why}" if self.seq else f"{name} {self.why}"


def _mac(key: Secret, *parts: bytes) -> bytes:
    """HMAC-SHA256 over the parts, each behind its length: no two lists of parts are the same bytes."""
    message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    return hmac.digest(key.reveal(), message, "sha256")


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big", signed=True)


def _time(value: datetime) -> bytes:
    return _number((value - _EPOCH) // timedelta(microseconds=1))


def beginning(key: Secret, chain: Chain) -> Tip:
    """The tip of a chain without records."""
    mac = _mac(key, b"begin", chain.id.bytes, _number(chain.number), chain.controller.encode(), _time(chain.started_at))
    return Tip(0, mac)


def next_record(key: Secret, chain: UUID, tip: Tip, *, at: datetime, kind: str, event: str) -> Record:
    """The record that follows ``tip``."""
    seq = tip.length + 1
    mac = _mac(key, b"record", tip.mac, chain.bytes, _number(seq), _time(at), kind.encode(), event.encode())
    return Record(seq, at, kind, event, mac)


def tip_of(record: Record) -> Tip:
    """The tip of a chain whose last record this is."""
    return Tip(record.seq, record.mac)


def head(key: Secret, chain: UUID, tip: Tip) -> bytes:
    """What a chain's row holds: the tip, under a MAC that only the key makes."""
    return _mac(key, b"head", chain.bytes, _number(tip.length), tip.mac)


def register(key: Secret, count: int) -> str:
    """What the database holds about how many chains there are."""
    return f"{count}:{_mac(key, b'register', _number(count)).hex()}"


def read_register(key: Secret, text: str) -> int | None:
    """How many chains there are; None if the text was not made by :func:`register`."""
    count, _, _ = text.partition(":")
    if not (count.isascii() and count.isdigit() and len(count) < 19):  # noqa: PLR2004 - what fits in 8 bytes
        return None
    return int(count) if hmac.compare_digest(register(key, int(count)).encode(), text.encode()) else None


class ChainCheck:
    """Follows one chain, record by record in order of ``seq``, in constant memory; keeps the first thing found."""

    def __init__(self, key: Secret, chain: Chain, witnesses: Iterable[Witness] = ()) -> None:
        self._key = key
        self._chain = chain
        self._witnesses = {witness.length: witness for witness in witnesses}
        self.tip = beginning(key, chain)
        self.finding: Finding | None = None

    def add(self, record: Record) -> Finding | None:
        """Takes the next record. Once something was found, further records are not looked at."""
        if self.finding:
            return self.finding
        expected = self.tip.length + 1
        if record.seq != expected:
            return self._found(expected, "is missing" if record.seq > expected else "stands in a place it cannot have")
        right = next_record(self._key, self._chain.id, self.tip, at=record.at, kind=record.kind, event=record.event)
        if not hmac.compare_digest(right.mac, record.mac):
            return self._found(expected, "was changed, or the records before it were changed, moved or removed")
        self.tip = tip_of(record)
        witness = self._witnesses.get(record.seq)
        if witness and not hmac.compare_digest(witness.mac, record.mac):
            return self._found(expected, "is another one than a witness saw")
        return None

    def finish(self, length: int, stored_head: bytes) -> Finding | None:
        """Compares the end with the chain's row and the witnesses."""
        if self.finding:
            return self.finding
        last = max((length, *self._witnesses)) if self._witnesses else length
        if last > self.tip.length:
            return self._found(self.tip.length + 1, f"and later ones up to {last} were removed")
        if length != self.tip.length:
            return self._found(length + 1, "was added, or the length of the chain was changed")
        if not hmac.compare_digest(head(self._key, self._chain.id, self.tip), stored_head):
            return self._found(0, "has a head that does not belong to its last record: records at its end were removed")
        return None

    def _found(self, seq: int, why: str) -> Finding:
        self.finding = Finding(self._chain.number, self._chain.id, seq, why)
        return self.finding
