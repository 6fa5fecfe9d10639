"""Passkeys as administrators see them: whose there are, which are blocked, and taking them away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update

from controller.audit.events import PasskeyRemoved
from controller.directory.lookup import find
from controller.identity.authenticators import withdraw
from controller.identity.passkeys import rows_of
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Passkey, User


@dataclass(frozen=True, slots=True)
class PasskeyEntry:
    """A passkey as administrators see it. `state` says what to do about one that is blocked."""

    id: UUID
    user: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
    synced: bool
    state: str


class PasskeyAdmin:
    """What administrators do with passkeys."""

    def __init__(self, storage: Storage, clock: Callable[[], datetime]) -> None:
        self._storage = storage
        self._clock = clock

    async def listing(self, user: str | None = None) -> Sequence[PasskeyEntry]:
        """Every passkey, or a person's. Raises Refused: not_found."""
        query = select(Passkey, User.name).join(User, Passkey.user_id == User.id).where(Passkey.removed_at.is_(None))
        async with self._storage.read() as db:
            if user is not None:
                query = query.where(User.id == (await find(db, User, user, "user")).id)
            rows = (await db.execute(query.order_by(User.name, Passkey.created_at, Passkey.id))).all()
        return [
            PasskeyEntry(
                id=row.id,
                user=name,
                name=row.name,
                created_at=row.created_at,
                last_used_at=row.last_used_at,
                synced=row.synced,
                state="good" if row.blocked_at is None else "blocked: there may be a copy; ask its owner and remove it",
            )
            for row, name in rows
        ]

    async def remove(self, passkey: UUID, *, actor: str) -> bool:
        """Takes a passkey away; whether it was there."""
        async with self._storage.change() as change:
            row = await change.db.get(Passkey, passkey)
            return row is not None and await self._remove(change, row, actor)

    async def reset(self, user: str, *, actor: str) -> int:
        """Takes all of a person's passkeys away; how many there were. Raises Refused: not_found."""
        async with self._storage.change() as change:
            owner = (await find(change.db, User, user, "user")).id
            await withdraw(change.db, owner)
            rows = await rows_of(change.db, owner)
            return sum([await self._remove(change, row, actor) for row in rows])

    async def _remove(self, change: Change, row: Passkey, actor: str) -> bool:
        there = update(Passkey).where(Passkey.id == row.id, Passkey.removed_at.is_(None))
        if not await changed_one(change.db, there.values(removed_at=self._clock())):
            return False
        owner = await change.db.get_one(User, row.user_id)
        change.record(PasskeyRemoved(user=owner.name, passkey=row.id, name=row.name, actor=actor))
        return True
