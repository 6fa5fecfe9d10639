"""Login by a backup code.

A code is used up by a conditional UPDATE of its row: of two logins with one code at once, from wherever, one gets in.
"""

from typing import Final
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from controller.audit.events import BackupCodeUsed
from controller.identity import backup_codes, rules
from controller.identity.backup import left
from controller.identity.method import Attempt, Lost, Proved, Refused
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import BackupCode
from wire.messages import Ask, BackupCodeAsk, BackupCodeProof


class ByBackupCode:
    """Judges backup codes."""

    kind: Final = "backup_code"
    second: Final = True

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def is_set_up(self, db: AsyncSession, user: UUID) -> bool:
        """Whether there is one left."""
        return await left(db, user) > 0

    async def asks(self, attempt: Attempt, proved: frozenset[str]) -> tuple[Ask, ...]:
        """A backup code, if there is one left."""
        return (BackupCodeAsk(),) if proved and self.kind in attempt.account.set_up else ()

    async def check(self, attempt: Attempt, proof: BackupCodeProof) -> Proved | Refused:
        """Whether it is one that was not used yet."""
        code = backup_codes.read(proof.code)
        if code is None:
            return Refused("backup_code_malformed", rules.BACKUP_MALFORMED)
        user = attempt.account.user_id
        mine = (BackupCode.user_id == user, BackupCode.digest == backup_codes.digest(user, code))
        async with self._storage.read() as db:
            row = await db.scalar(select(BackupCode).where(*mine))
        if row is None:
            return Refused("backup_code_wrong", rules.BACKUP_WRONG)
        if row.used_at is not None:
            return Refused("backup_code_used", rules.BACKUP_USED)
        unused = (BackupCode.id == row.id, BackupCode.used_at.is_(None))

        async def use(change: Change) -> None:
            if not await changed_one(change.db, update(BackupCode).where(*unused).values(used_at=attempt.now)):
                raise Lost("backup_code_used", rules.BACKUP_USED)
            change.record(
                BackupCodeUsed(
                    user=attempt.account.name,
                    device=attempt.device,
                    source=attempt.source,
                    left=await left(change.db, user),
                )
            )

        return Proved(frozenset({"backup"}), use)
