"""Login by password. Its hash is compared outside any transaction and must still be the stored one inside it.

Every refusal looks alike and takes as long: a decoy is hashed for those there are not (`decline`).
"""

from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from controller.identity import rules
from controller.identity.method import Attempt, Lost, Proved, Refused
from controller.identity.passwords import Passwords
from controller.identity.rules import Reason
from controller.storage.engine import Change
from controller.storage.models import User
from wire.messages import Ask, PasswordAsk, PasswordProof


class ByPassword:
    """Judges passwords."""

    kind: Final = "password"
    second: Final = False

    def __init__(self, passwords: Passwords) -> None:
        self._passwords = passwords

    async def is_set_up(self, db: AsyncSession, user: UUID) -> bool:
        """Whether there is a password."""
        return await db.scalar(select(User.password_hash).where(User.id == user)) is not None

    async def asks(self, attempt: Attempt, proved: frozenset[str]) -> tuple[Ask, ...]:  # noqa: ARG002 - the same to all
        """A password, as long as nothing was proved; whether there is one is nobody's business."""
        return () if proved else (PasswordAsk(),)

    async def decline(self, proof: PasswordProof) -> None:
        """Takes as long as a check, for an account that does not count. Raises Busy."""
        await self._passwords.decline(proof.password)

    async def check(self, attempt: Attempt, proof: PasswordProof) -> Proved | Refused:
        """Whether it is the password. Raises Busy."""
        account = attempt.account
        checked = await self._passwords.check(account.password_hash, proof.password)
        if not checked.matches:
            none = account.password_hash is None
            return Refused(Reason.NO_PASSWORD if none else Reason.WRONG_PASSWORD, rules.BAD_CREDENTIALS)

        async def use(change: Change) -> None:
            if checked.rehash is not None:
                same = (User.id == account.user_id, User.password_hash == account.password_hash)
                await change.db.execute(update(User).where(*same).values(password_hash=checked.rehash))
            # It was checked outside the transaction: it may have been changed since, because it was stolen.
            now = await change.db.scalar(select(User.password_hash).where(User.id == account.user_id))
            if now not in {account.password_hash, checked.rehash}:
                raise Lost(Reason.CHANGED_MEANWHILE, rules.OVER)

        return Proved(frozenset({"pwd"}), use)
