"""Logins at a provider that are under way: what was sent, to be compared with what comes back (pure).

Laws:

1. A conversation belongs to one device. It is proved once, it makes one session, and it ends at its deadline.
2. `state`, `nonce` and the PKCE verifier are fresh for each, of 256 bits, and leave this process only where the
   protocol says: the verifier to the provider alone.
3. There are at most `MOST` of them, `MOST_OF_DEVICE` of one device: a new one displaces the device's oldest, and is
   refused where others hold all. A device begins at most `MOST_BEGUN` of them in `WINDOW`.
4. A wrong state ends the conversation: whoever sent it did not come from where we sent the person. One that its device
   has refused itself (`strayed`) does not: else any page in the person's browser could end their login.
"""

import base64
import hashlib
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from certs.secret import Secret
from controller.identity.oidc.rules import Registration

LIFETIME: Final = timedelta(minutes=10)
"""A person looks for their phone, reads a page, types a code; device codes of providers live as long."""
MOST: Final = 2_048
MOST_OF_DEVICE: Final = 3
MOST_BEGUN: Final = 10
WINDOW: Final = timedelta(minutes=1)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _token() -> Secret:
    """43 characters of base64url: what `state`, `nonce` and a verifier may be made of."""
    return Secret(_base64url(Secret.fresh().reveal()).encode())


@dataclass(frozen=True, slots=True)
class CodeFlow:
    """Authorization code with PKCE: what was sent to the browser."""

    redirect: str
    state: Secret = field(default_factory=_token, repr=False)
    nonce: Secret = field(default_factory=_token, repr=False)
    verifier: Secret = field(default_factory=_token, repr=False)

    @property
    def challenge(self) -> str:
        """The verifier's S256 challenge (RFC 7636 section 4.2)."""
        return _base64url(hashlib.sha256(self.verifier.reveal()).digest())


@dataclass(frozen=True, slots=True)
class DeviceFlow:
    """Device authorization: what the provider is asked with, and not before when."""

    code: Secret = field(repr=False)
    interval: timedelta
    ask_at: datetime


@dataclass(frozen=True, slots=True)
class Proved:
    """The provider's word, and whose it is here. `second_factor_at` where it counts for two factors.

    `begun` and `at`: when this login began, and when the word was heard.
    """

    user_id: UUID
    issuer: str
    subject: str
    second_factor_at: datetime | None
    refresh: Secret | None = field(repr=False)
    begun: datetime
    at: datetime


@dataclass(frozen=True, slots=True)
class Conversation:
    """One login at one provider."""

    device: UUID
    registration: Registration
    flow: CodeFlow | DeviceFlow
    max_age: timedelta
    begun: datetime
    deadline: datetime
    id: UUID = field(default_factory=uuid4)
    busy: bool = False
    strayed: bool = False
    proved: Proved | None = None


class TooMany(Exception):  # noqa: N818 - an answer
    """No further conversation now."""


class Conversations:
    """Those under way. Knows no clock: `now` is an argument."""

    def __init__(self) -> None:
        self._all: dict[UUID, Conversation] = {}  # the oldest first
        self._begun: dict[UUID, deque[datetime]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def may_begin(self, device: UUID, now: datetime) -> None:
        """Counts a beginning by this device. Raises TooMany (law 3)."""
        self._forget(now)
        begun = self._begun.setdefault(device, deque())
        while begun and not timedelta(0) <= now - begun[0] < WINDOW:
            begun.popleft()
        if len(begun) >= MOST_BEGUN:
            raise TooMany
        begun.append(now)

    def add(self, conversation: Conversation, now: datetime) -> None:
        """From now on it is under way. Raises TooMany (law 3)."""
        self._forget(now)
        mine = [each.id for each in self._all.values() if each.device == conversation.device]
        for oldest in mine[: max(0, len(mine) - MOST_OF_DEVICE + 1)]:
            del self._all[oldest]
        if len(self._all) >= MOST:
            raise TooMany
        self._all[conversation.id] = conversation

    def find(self, identifier: UUID, device: UUID, now: datetime) -> Conversation | None:
        """The conversation of that name, if it is this device's and not over."""
        self._forget(now)
        found = self._all.get(identifier)
        return found if found is not None and found.device == device else None

    def change(self, conversation: Conversation, **values: object) -> Conversation | None:
        """It goes on with these values; None if it is over meanwhile."""
        if conversation.id not in self._all:
            return None
        changed = replace(self._all[conversation.id], **values)  # type: ignore[arg-type] # names of its fields
        self._all[conversation.id] = changed
        return changed

    def end(self, identifier: UUID) -> Conversation | None:
        """It is over; answers it, once."""
        return self._all.pop(identifier, None)

    def _forget(self, now: datetime) -> None:
        """Those past their deadline; those of a clock that was set back by more than their life, too."""
        over = [each.id for each in self._all.values() if not each.begun - LIFETIME <= now < each.deadline]
        for each in over:
            del self._all[each]
        idle = [device for device, begun in self._begun.items() if not begun or now - begun[-1] >= WINDOW]
        for device in idle:
            del self._begun[device]
