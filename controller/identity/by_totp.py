"""Login by the code of an authenticator, and setting one up at the first login.

A code's step is accepted by a conditional UPDATE of one row: of two logins with one code at once, one gets in.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from certs.secret import Secret
from controller.audit.events import TotpEnrolled
from controller.identity import rules, totp
from controller.identity.method import Attempt, Lost, Proved, Refused
from controller.identity.rules import Authenticator, Right
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Totp
from wire.messages import Ask, OtpAsk, OtpProof, TotpEnrolmentAsk


class ByTotp:
    """Judges codes. `domain` is shown in authenticator apps."""

    kind: Final = "otp"
    second: Final = True

    def __init__(self, storage: Storage, domain: str) -> None:
        self._storage = storage
        self._domain = domain

    async def is_set_up(self, db: AsyncSession, user: UUID) -> bool:
        """Whether an authenticator was confirmed."""
        return await db.scalar(select(Totp.confirmed_at).where(Totp.user_id == user)) is not None

    async def asks(self, attempt: Attempt, proved: frozenset[str]) -> tuple[Ask, ...]:
        """A code; where no second factor is set up, the code of a new authenticator."""
        if not proved:
            return ()
        if self.kind in attempt.account.set_up:
            return (OtpAsk(),)
        if not attempt.may_enrol:
            return ()
        secret = await self._unconfirmed(attempt)
        return (TotpEnrolmentAsk(uri=totp.provisioning_uri(secret, user=attempt.account.name, domain=self._domain)),)

    async def check(self, attempt: Attempt, proof: OtpProof) -> Proved | Refused:
        """Whether the code is good now."""
        async with self._storage.read() as db:
            row = await db.get(Totp, attempt.account.user_id)
            known = None if row is None else self._opened(row)
        judged = rules.judge_code(known, proof.code, attempt.now, may_enrol=attempt.may_enrol)
        if isinstance(judged, totp.Refused):
            return Refused(judged.reason, rules.CODES[judged.reason])
        right = judged

        async def use(change: Change) -> None:
            await _accept_step(change, attempt, right)

        return Proved(frozenset({"otp"}), use, enrols=not right.authenticator.confirmed)

    async def _unconfirmed(self, attempt: Attempt) -> Secret:
        """Stores a new secret, unless there is one or somebody stores one meanwhile; answers the one that is stored."""
        user = attempt.account.user_id
        async with self._storage.change() as change:
            row = await change.db.get(Totp, user)
            if row is not None:
                return self._opened(row).secret
            secret = totp.new_secret()
            sealed = self._storage.sealer.seal(secret, context(user))
            change.db.add(
                Totp(user_id=user, sealed_secret=sealed, created_at=attempt.now, confirmed_at=None, last_step=None)
            )
        return secret

    def _opened(self, row: Totp) -> Authenticator:
        return Authenticator(
            secret=self._storage.sealer.open(row.sealed_secret, context(row.user_id)),
            sealed=row.sealed_secret,
            confirmed=row.confirmed_at is not None,
            last_step=row.last_step,
        )


async def _accept_step(change: Change, attempt: Attempt, right: Right) -> None:
    """Uses the code up, and confirms an authenticator whose first it is. Lost if somebody was faster."""
    known, account = right.authenticator, attempt.account
    unused = (
        Totp.user_id == account.user_id,
        Totp.sealed_secret == known.sealed,
        or_(Totp.last_step.is_(None), Totp.last_step < right.step),
    )
    values: dict[str, object] = {"last_step": right.step}
    if not known.confirmed:
        values["confirmed_at"] = attempt.now
    if not await changed_one(change.db, update(Totp).where(*unused).values(**values)):
        raise Lost(totp.Reason.USED, rules.CODES[totp.Reason.USED])
    if not known.confirmed:
        change.record(TotpEnrolled(user=account.name, device=attempt.device, source=attempt.source))


def context(user: UUID) -> str:
    """What a user's authenticator secret is sealed for."""
    return f"totp/{user}/secret"
