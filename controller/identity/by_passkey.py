"""Login by passkey. The person was verified by their authenticator, so it is two factors by itself.

What a stranger learns: that a passkey was not accepted. The true reason is in the audit log.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from controller.identity import challenges, rules
from controller.identity.challenges import Asked
from controller.identity.method import Attempt, Lost, Proved, Refused
from controller.identity.passkeys import Passkeys, Who, Why, credential_of
from controller.identity.rules import Reason, Told
from controller.identity.webauthn import Reason as Wrong
from controller.storage.engine import Change
from controller.storage.models import Passkey
from wire.messages import Ask, PasskeyAsk, PasskeyProof
from wire.passkey import Purpose

METHODS: Final = frozenset({"webauthn", rules.MFA})
"""RFC 8176 has hwk and swk for keys in hardware and software; without attestation nobody knows which it is."""

NOT_ACCEPTED: Final = Told(
    "passkey_refused", "this passkey was not accepted", "log in another way; if it goes on, ask your administrator"
)
LATE: Final = Told("passkey_late", "the question your passkey answered is not open any more", "log in again")
UNVERIFIED: Final = Told(
    "passkey_unverified",
    "this authenticator did not check that it is you",
    "give it a PIN, a finger or your face in its settings, or use another passkey",
)


class ByPasskey:
    """Judges passkeys."""

    kind: Final = "passkey"
    second: Final = False

    def __init__(self, passkeys: Passkeys) -> None:
        self._passkeys = passkeys

    async def is_set_up(self, db: AsyncSession, user: UUID) -> bool:
        """Whether there is a passkey. A blocked one counts: a password alone must not set up something else instead."""
        mine = select(Passkey.id).where(Passkey.user_id == user, Passkey.removed_at.is_(None))
        return await db.scalar(mine.limit(1)) is not None

    async def asks(self, attempt: Attempt, proved: frozenset[str]) -> tuple[Ask, ...]:  # noqa: ARG002 - the same to all
        """A passkey of theirs, over a new challenge."""
        if self.kind not in attempt.account.set_up:
            return ()
        rows = await self._passkeys.of(attempt.account.user_id)
        known = tuple(credential_of(row) for row in rows if row.blocked_at is None)
        if not known:
            return ()
        challenge = await self._passkeys.ask(attempt.device, Asked(Purpose.LOGIN, attempt.account.user_id))
        return (PasskeyAsk(challenge=challenge, credentials=known),)

    async def check(self, attempt: Attempt, proof: PasskeyProof) -> Proved | Refused:
        """Whether an authenticator of theirs signed the challenge of this device."""
        account = attempt.account
        who = Who(account.user_id, account.name, attempt.device, attempt.source)
        signed = await self._passkeys.check(who, proof, Asked(Purpose.LOGIN, account.user_id))
        if isinstance(signed, Why):
            return Refused(signed.reason, told(signed.reason))

        async def use(change: Change) -> None:
            if not await signed.use(change, attempt.now):
                raise Lost(Reason.CHANGED_MEANWHILE, rules.OVER)

        return Proved(METHODS, use)


def told(reason: str) -> Told:
    """What the person is told: what they can do something about, and nothing else."""
    if reason in set(challenges.Reason):
        return LATE
    return UNVERIFIED if reason == Wrong.NOT_VERIFIED else NOT_ACCEPTED
