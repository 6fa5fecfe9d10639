"""The backup codes a person has, as rows."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import delete

from controller.audit.events import BackupCodesMade
from controller.identity import backup_codes
from controller.sessions.rows import backup_codes_left as left
from controller.storage.engine import Change
from controller.storage.models import BackupCode

__all__ = ["left", "replace", "start_with"]


async def replace(change: Change, user: UUID, name: str, now: datetime) -> tuple[str, ...]:
    """Ten new codes for a person; those they had count no more. Audited without the codes."""
    await change.db.execute(delete(BackupCode).where(BackupCode.user_id == user))
    codes = backup_codes.new_codes()
    for shown in codes:
        code = backup_codes.read(shown) or ""
        row = BackupCode(id=uuid4(), user_id=user, digest=backup_codes.digest(user, code), created_at=now, used_at=None)
        change.db.add(row)
    await change.db.flush()
    change.record(BackupCodesMade(user=name, count=len(codes)))
    return codes


async def start_with(change: Change, user: UUID, name: str, now: datetime) -> tuple[str, ...]:
    """Ten codes for a person who has none; nothing for one who has."""
    return () if await left(change.db, user) else await replace(change, user, name, now)
