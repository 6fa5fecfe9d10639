"""Challenges of passkeys that were asked for and not answered yet; pure, in memory.

Laws:

1. A challenge counts for the device, purpose and person it was made for, until its deadline, once: whatever comes of
   the answer, it is used up by it.
2. A device has at most `EACH`, all devices together have at most `DEVICES` times that; the oldest make way.
3. They do not outlive the process: who was asked before a restart is asked again.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from wire.passkey import Purpose

LIFETIME: Final = timedelta(minutes=5)
"""From the question to the answer: a person looks for a key and types its PIN (WebAuthn section 15.1: 5 to 10 min)."""
EACH: Final = 4
DEVICES: Final = 10_000


class Reason(StrEnum):
    """Why a challenge does not count."""

    UNKNOWN = "passkey_challenge_unknown"
    USED = "passkey_challenge_used"
    EXPIRED = "passkey_challenge_expired"


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked, and of whom. `session` is the one a passkey is to be added in."""

    purpose: Purpose
    user: UUID
    session: UUID | None = None


@dataclass(slots=True)
class _Open:
    challenge: bytes
    asked: Asked
    until: datetime
    used: bool = False


class Challenges:
    """Knows no clock and no chance: both are arguments."""

    def __init__(self) -> None:
        self._devices: OrderedDict[UUID, deque[_Open]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._devices.values()))

    def ask(self, device: UUID, challenge: bytes, asked: Asked, now: datetime) -> None:
        """`challenge` is asked of this device from now on."""
        there = self._devices.pop(device, None) or deque(maxlen=EACH)
        there.append(_Open(challenge, asked, now + LIFETIME))
        self._devices[device] = there
        self._make_way(now)

    def answer(self, device: UUID, challenge: bytes, asked: Asked, now: datetime) -> Reason | None:
        """Uses `challenge` up; None if it was asked of this device for exactly that, else why it does not count."""
        for each in self._devices.get(device, ()):
            if each.challenge == challenge and each.asked == asked:
                if each.used:
                    return Reason.USED
                each.used = True
                return Reason.EXPIRED if now >= each.until else None
        return Reason.UNKNOWN

    def _make_way(self, now: datetime) -> None:
        """Devices are in the order of their newest challenge, so those with nothing left are in front.

        What is used or late is kept as long again: the audit log says which of the two it was.
        """
        while self._devices:
            oldest = next(iter(self._devices.values()))
            if len(self._devices) <= DEVICES and oldest[-1].until + LIFETIME > now:
                return
            self._devices.popitem(last=False)
