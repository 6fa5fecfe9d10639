"""Fuzz target: a server's whole life of keys put and dropped and knocks judged, against rules written down once more.

An input is a list of steps of four bytes: what to do, with which key of which device, when, which knock.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final
from uuid import UUID

from spa.admission import Admission, Admit
from spa.errors import DropReason
from spa.limits import MAX_SKEW_US, REORDER_US
from spa.packet import Knock, KnockKey, KnockKind, encode
from tests.fuzz.target import Reached, Target

START: Final = 1_800_000_000_000_000
STEP_US: Final = MAX_SKEW_US // 8
PORT: Final = 8443
SEEN: Final = IPv4Address("192.0.2.7")
SESSION: Final = UUID(int=7)
KEYS: Final = tuple(KnockKey(bytes([number]) * 32, bytes(32)) for number in range(4))
KINDS: Final = (frozenset(KnockKind), frozenset({KnockKind.CONTROL}), frozenset({KnockKind.TUNNEL}))


class Story:
    """A server and, beside it, what has to be true of it."""

    def __init__(self, reached: Reached) -> None:
        self.reached = reached
        self.now = START
        self.lease = True
        self.server = Admission(
            started_us=START - STEP_US,
            kinds=frozenset(KnockKind),
            ports=frozenset({PORT}),
            lease_live=lambda _key_id, session: self.lease and session == SESSION,
        )
        self.keys: dict[str, dict[bytes, frozenset[KnockKind]]] = {}  # of each id, what it may knock for
        self.believed: dict[bytes, set[int]] = {}  # the times believed of each key, for ever
        self.judged = 0

    def step(self, action: int, which: int, when: int, how: int) -> None:
        key, key_id, kinds = KEYS[which % 4], f"device/{which // 4 % 2}", KINDS[how % 3]
        match action % 8:
            case 0:
                self.server.put(key_id, key, kinds, self.now)
                self._taken(key)
                self.keys[key_id] = {key.to_bytes(): kinds}
            case 1:
                self.server.put_also(key_id, key, kinds, self.now)
                self._taken(key)
                self.keys.setdefault(key_id, {})[key.to_bytes()] = kinds
            case 2:
                self.server.drop(key_id)
                self.keys.pop(key_id, None)
            case 3:
                self.now += when * STEP_US
                while self.server.roll(self.now):
                    pass
            case 4:
                self.lease = not self.lease
            case 5:
                self._judge(bytes([when]) * how, None, None)
            case _:
                self._knock(key, when, how)
        assert len(self.server) == sum(map(len, self.keys.values()))

    def _taken(self, key: KnockKey) -> None:
        """Whoever is given a key has it alone."""
        for held in self.keys.values():
            held.pop(key.to_bytes(), None)

    def _knock(self, key: KnockKey, when: int, how: int) -> None:
        kind = KnockKind(1 + how % 3)
        at = self.now + (when - 128) * STEP_US // 12
        knock = Knock(
            kind,
            at,
            SESSION if kind is KnockKind.TUNNEL else None,
            IPv4Address(int(SEEN) + (how >> 2 & 1)) if how & 8 else None,
            PORT + (how >> 4 & 1),
        )
        self._judge(encode(knock, key, nonce=bytes(12), pad=bytes(how >> 5)), key, knock)

    def _judge(self, datagram: bytes, key: KnockKey | None, knock: Knock | None) -> None:
        before = sum(self.server.counters.values()) + self.server.admitted
        answer = self.server.admit(datagram, SEEN, self.now)
        assert sum(self.server.counters.values()) + self.server.admitted == before + 1, "each is counted once"
        if not isinstance(answer, Admit):
            self.reached(answer.reason)
            assert (answer.key_id is None) is (answer.reason in {DropReason.LENGTH, DropReason.LOCATOR})
            return
        self.reached(answer.kind.name)
        assert key is not None, "garbage opened a door"
        assert knock is not None, "garbage opened a door"
        allowed = self.keys.get(answer.key_id, {}).get(key.to_bytes(), frozenset())
        assert knock.kind in allowed, "a key opened what it was not given for"
        believed = self.believed.setdefault(key.to_bytes(), set())
        assert knock.time_us not in believed, "a knock was believed twice"
        assert knock.time_us >= max(believed, default=0) - REORDER_US, "a knock was believed that others left behind"
        assert knock.time_us >= START - STEP_US
        assert abs(knock.time_us - self.now) <= MAX_SKEW_US
        assert answer == Admit(answer.key_id, knock.kind, knock.session, (SEEN,), PORT)
        assert knock.source in {None, SEEN}
        assert knock.session is None or self.lease
        believed.add(knock.time_us)


def check(data: bytes, reached: Reached) -> None:
    story = Story(reached)
    for at in range(0, len(data) - 3, 4):
        story.step(*data[at : at + 4])


def seeds() -> Iterator[bytes]:
    put, also, drop, wait, knock = 0, 1, 2, 3, 6
    yield bytes([put, 0, 0, 0, knock, 0, 128, 1])
    yield bytes([put, 0, 0, 0, knock, 0, 128, 1, drop, 0, 0, 0, put, 0, 0, 0, knock, 0, 128, 1])
    yield bytes([put, 0, 0, 0, also, 1, 0, 0, knock, 0, 128, 1, knock, 1, 128, 2, put, 1, 0, 0, knock, 0, 129, 1])
    yield bytes([put, 0, 0, 0, knock, 0, 130, 1, drop, 0, 0, 0, wait, 0, 20, 0, put, 0, 0, 0, knock, 0, 128, 1])
    yield bytes([put, 0, 0, 0, put, 4, 0, 0, drop, 0, 0, 0, knock, 0, 128, 9])


TARGET: Final = Target(check, seeds, longest=256)
