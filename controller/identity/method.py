"""What every login method owes. Each has a file of its own, `by_….py`, and a place in the list in login.py.

Laws:

1. A method says what a proof proves, or why it does not count. Whether that suffices is for rules.py to say.
2. What a proof uses up (the step of a code, a backup code, a challenge) is used up by `Proved.use`: a conditional
   UPDATE in the transaction that makes the session. It raises Lost where somebody was faster.
3. A `second` method is asked nothing before something else was proved: about codes strangers learn nothing.
4. A refusal holds the true reason, for the audit log, and what the person is told; they may differ.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from controller.identity.rules import Account, Told
from controller.storage.engine import Change
from wire.messages import Ask


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request of a device whose certificate was checked, for an account that counts.

    `may_enrol`: a second factor may be set up on the way, as at a first login.
    """

    account: Account
    device: UUID
    source: str
    now: datetime
    may_enrol: bool


@dataclass(frozen=True, slots=True)
class Proved:
    """A proof counts. `methods` are the names sessions and policies know it by: those of RFC 8176 where it has one.

    `begun` writes what belongs to the session that is made. `proved_at` where it was proved some time ago.
    `enrols`: it is the first of something that was just set up.
    """

    methods: frozenset[str]
    use: Callable[[Change], Awaitable[None]]
    begun: Callable[[Change, UUID], None] | None = None
    proved_at: datetime | None = None
    enrols: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A proof does not count: the true reason, and what the person is told."""

    reason: str
    told: Told


class Lost(Exception):  # noqa: N818 - it rolls a transaction back, and is an answer
    """What was true when we looked is not any more."""

    def __init__(self, reason: str, told: Told) -> None:
        super().__init__(reason)
        self.reason = reason
        self.told = told


P_contra = TypeVar("P_contra", contravariant=True)


class Method(Protocol[P_contra]):
    """A way to prove who one is; `P_contra` is the class of its proofs in `wire.messages.login`."""

    @property
    def kind(self) -> str:
        """The `type` of its proofs."""

    @property
    def second(self) -> bool:
        """Whether it counts only beside another one (law 3)."""

    async def is_set_up(self, db: AsyncSession, user: UUID) -> bool:
        """Whether this person has it. As many queries for somebody there is not."""

    async def asks(self, attempt: Attempt, proved: frozenset[str]) -> tuple[Ask, ...]:
        """What it would accept next, given the methods proved so far. Raises StorageUnavailable."""

    async def check(self, attempt: Attempt, proof: P_contra) -> Proved | Refused:
        """What the proof proves. Raises Busy, StorageUnavailable."""
