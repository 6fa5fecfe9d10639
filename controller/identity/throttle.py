"""The brake on guessing, kept in the database: a restart forgets nothing. Its rules are in attempts.py."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from controller.identity import attempts
from controller.identity.attempts import Refusals
from controller.storage.engine import Change, Storage
from controller.storage.models import Brake, Device


class Throttle:
    """Who has to wait."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @staticmethod
    async def wait(db: AsyncSession, keys: Sequence[str], now: datetime) -> timedelta:
        """The longest wait any of `keys` asks for."""
        rows = await db.scalars(select(Brake).where(Brake.key.in_(keys)))
        return max((attempts.wait(Refusals(row.count, row.last), now) for row in rows), default=timedelta(0))

    async def refused(self, keys: Sequence[str], now: datetime) -> None:
        """Counts an attempt that failed. Raises StorageUnavailable."""
        async with self._storage.change() as change:
            await change.db.execute(delete(Brake).where(Brake.last < now - attempts.FORGET))
            for key in keys:
                row = await change.db.get(Brake, key, with_for_update=True)
                known = attempts.after_another(None if row is None else Refusals(row.count, row.last), now)
                if row is None:
                    change.db.add(Brake(key=key, count=known.count, last=known.last))
                else:
                    row.count, row.last = known.count, known.last


async def forget(change: Change, device: UUID) -> None:
    """A login on this device succeeded."""
    await change.db.execute(delete(Brake).where(Brake.key == attempts.own(device)))


async def unlock(db: AsyncSession, user: UUID, name: str) -> int:
    """Forgets every refusal that concerns a person; answers how many counts there were."""
    devices = await db.scalars(select(Device.id).where(Device.user_id == user))
    keys = [attempts.account(name), *(attempts.own(device) for device in devices)]
    gone = await db.scalars(delete(Brake).where(Brake.key.in_(keys)).returning(Brake.key))
    return len(gone.all())
