"""The rows of sessions: every statement about them, each for use inside a change of `Sessions`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from console.address import plain_host
from controller.sessions.rules import LiveSession
from controller.storage.conditional import changed_one
from controller.storage.models import BackupCode, Device, Session, User

REPLACED: Final = "replaced"


class NoLongerAllowed(Exception):  # noqa: N818 - an answer that rolls a transaction back
    """The session ended, the user was disabled or the device revoked meanwhile."""


@dataclass(frozen=True, slots=True)
class Closed:
    """A session whose row was ended."""

    session: UUID
    user: str
    device: UUID


async def close(
    db: AsyncSession, which: ColumnElement[bool], now: datetime, code: str, sentence: str
) -> Sequence[Closed]:
    """Ends the rows of `which` that have not ended; answers them."""
    query = select(Session.id, User.name, Session.device_id).join(User, Session.user_id == User.id)
    found = (await db.execute(query.where(which, Session.ended_at.is_(None)))).all()
    closed = []
    for session, user, device in found:
        still = update(Session).where(Session.id == session, Session.ended_at.is_(None))
        if await changed_one(db, still.values(ended_at=now, end_code=code, end_reason=sentence)):
            closed.append(Closed(session, user, device))
    return closed


async def insert(db: AsyncSession, session: LiveSession) -> LiveSession:
    """The row of a new session; the device was seen. Answers it with how many backup codes there are."""
    db.add(
        Session(
            id=session.id,
            user_id=session.user_id,
            device_id=session.device_id,
            source=session.source,
            started_at=session.started_at,
            mfa_at=session.mfa_at,
            methods=" ".join(sorted(session.methods)),
            valid_until=session.valid_until,
            ended_at=None,
            end_code=None,
            end_reason=None,
        )
    )
    await db.execute(update(Device).where(Device.id == session.device_id).values(last_seen_at=session.started_at))
    await db.flush()
    return await counted(db, session)


async def counted(db: AsyncSession, session: LiveSession) -> LiveSession:
    """The session with how many backup codes its person has left."""
    return replace(session, backup_codes=await backup_codes_left(db, session.user_id))


async def backup_codes_left(db: AsyncSession, user: UUID) -> int:
    """How many backup codes a person has that were not used yet."""
    unused = (BackupCode.user_id == user, BackupCode.used_at.is_(None))
    return await db.scalar(select(func.count()).select_from(BackupCode).where(*unused)) or 0


async def step_up(db: AsyncSession, session: LiveSession) -> None:
    """Writes what was proved for a live session. NoLongerAllowed if the database knows better than memory."""
    if not await knock_secrets_of(db, session.user_id, session.device_id):
        raise NoLongerAllowed
    live = (Session.id == session.id, Session.ended_at.is_(None))
    values = {"mfa_at": session.mfa_at, "methods": " ".join(sorted(session.methods))}
    if not await changed_one(db, update(Session).where(*live).values(**values)):
        raise NoLongerAllowed


async def extend(db: AsyncSession, session: LiveSession, valid_until: datetime) -> None:
    """Moves a live session's end. NoLongerAllowed if the database knows better than memory."""
    if not await knock_secrets_of(db, session.user_id, session.device_id):
        raise NoLongerAllowed
    live = (Session.id == session.id, Session.ended_at.is_(None))
    if not await changed_one(db, update(Session).where(*live).values(valid_until=valid_until)):
        raise NoLongerAllowed


async def knock_secrets_of(db: AsyncSession, user: UUID, device: UUID) -> tuple[bytes, ...]:
    """The device's sealed knock secrets, the newest first.

    None, unless it is this user's, is not revoked, and the user not disabled.
    """
    found = (
        await db.execute(
            select(Device.sealed_next_knock_secret, Device.sealed_knock_secret)
            .join(User, Device.user_id == User.id)
            .where(Device.id == device, User.id == user, Device.revoked_at.is_(None), User.disabled_at.is_(None))
        )
    ).one_or_none()
    return () if found is None else tuple(each for each in found if each is not None)


async def unended(db: AsyncSession) -> Sequence[tuple[LiveSession, tuple[bytes, ...]]]:
    """Every session whose row has not ended, with its device's sealed knock secrets (none: it may not go on)."""
    query = select(Session, User.name).join(User, Session.user_id == User.id).where(Session.ended_at.is_(None))
    found = []
    for row, user in (await db.execute(query)).all():
        session = LiveSession(
            id=row.id,
            user_id=row.user_id,
            user=user,
            device_id=row.device_id,
            source=row.source,
            started_at=row.started_at,
            mfa_at=row.mfa_at,
            methods=frozenset(row.methods.split()),
            valid_until=row.valid_until,
            seen_at=plain_host(row.source),
        )
        session = await counted(db, session)
        found.append((session, await knock_secrets_of(db, row.user_id, row.device_id)))
    return found
