"""Devices, as administrators see them: list, rename, approve, revoke; and the one that gives itself up.

Laws:

1. A revoked device stays revoked and keeps its row. Its person enrols the machine again with a new invite.
2. Revoking is done when it is in force: the row committed, the knock key gone, every session of the device ended.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal
from uuid import UUID

from sqlalchemy import select, update

from controller.audit.events import ChangeMade
from controller.devices.keys import KnockKeys
from controller.devices.seen import Seen
from controller.directory.service import bump_revision
from controller.errors import Refused
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Device, User

if TYPE_CHECKING:  # sessions know devices; devices only know that there are sessions to end
    from controller.sessions.service import Sessions

LONGEST_NAME: Final = 64
"""Characters, as at enrolment."""

State = Literal["waiting", "approved", "revoked"]


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device as an administrator sees it; without a user until somebody of its provider has logged in on it."""

    id: UUID
    user: str
    name: str
    platform: str
    state: State
    created_at: datetime
    last_seen_at: datetime | None
    certified_until: datetime  # the later end, during a renewal
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Revoked:
    """What revoking did: the sessions it ended, and the gateways that had not acknowledged in time."""

    sessions: frozenset[UUID]
    lagging: frozenset[str]


class Devices:
    """`changed` is awaited after each change: the directory is another one then."""

    def __init__(
        self,
        *,
        storage: Storage,
        seen: Seen,
        keys: KnockKeys,
        sessions: "Sessions",
        clock: Callable[[], datetime],
        changed: Callable[[], Awaitable[object]],
    ) -> None:
        self._storage = storage
        self._seen = seen
        self._keys = keys
        self._sessions = sessions
        self._clock = clock
        self._changed = changed

    async def list(self) -> Sequence[DeviceView]:
        """Every device, the newest first."""
        query = select(Device, User.name).outerjoin(User, Device.user_id == User.id).order_by(Device.created_at.desc())
        async with self._storage.read() as db:
            rows = (await db.execute(query)).all()
        return [_view(device, user or "", self._seen.at(device.id, device.last_seen_at)) for device, user in rows]

    async def rename(self, device: UUID, name: str, *, actor: str) -> None:
        """Calls a device otherwise. Raises Refused for one there is not, or a name nobody can read."""
        if not 0 < len(name) <= LONGEST_NAME or not name.isprintable() or name != name.strip():
            raise Refused(
                code="bad_name",
                what=f"{name[:LONGEST_NAME]!a} is no name for a device",
                fix=f"write one line of at most {LONGEST_NAME} printable characters",
            )
        async with self._storage.change() as change:
            row = await _get(change, device)
            if row.name != name:
                change.record(
                    ChangeMade(actor=actor, what="device.renamed", detail=f"{device}: {row.name!a} to {name!a}")
                )
                row.name = name
                await bump_revision(change)
        await self._changed()

    async def approve(self, device: UUID, *, actor: str) -> None:
        """Lets a device that waits in. Raises Refused if there is none, or it is revoked."""
        async with self._storage.change() as change:
            row = await _get(change, device)
            if row.revoked_at is not None:
                raise Refused(
                    code="device_revoked",
                    what=f"the device {device} is revoked",
                    fix="enrol the machine again with a new invite",
                )
            if row.approved_at is None:
                row.approved_at = self._clock()
                await bump_revision(change)
                change.record(ChangeMade(actor=actor, what="device.approved", detail=str(device)))
        await self._changed()

    async def revoke(self, device: UUID, *, actor: str, reason: str = "") -> Revoked:
        """Shuts a device out for good; returns when that is in force. Raises Refused if there is none."""
        now = self._clock()
        async with self._storage.change() as change:
            await _get(change, device)
            live = (Device.id == device, Device.revoked_at.is_(None))
            if await changed_one(change.db, update(Device).where(*live).values(revoked_at=now)):
                await bump_revision(change)
                detail = f"{device}: {reason}" if reason else str(device)
                change.record(ChangeMade(actor=actor, what="device.revoked", detail=detail))
        self._keys.revoke_device(device)
        ended = await self._sessions.end_where(
            device=device, code="device_revoked", sentence="this device was revoked", actor=actor
        )
        await self._changed()
        return Revoked(frozenset(ended), frozenset().union(*ended.values()))

    async def give_up(self, device: UUID) -> None:
        """Revokes a device that proved itself and asks for it: another has its place. Raises StorageUnavailable."""
        async with self._storage.read() as db:
            owner = await db.scalar(
                select(User.name).join(Device, Device.user_id == User.id).where(Device.id == device)
            )
        await self.revoke(device, actor=f"user/{owner}" if owner else f"device/{device}", reason="replaced")


async def _get(change: Change, device: UUID) -> Device:
    row = await change.db.get(Device, device)
    if row is None:
        raise Refused(code="no_device", what=f"there is no device {device}", fix="see gloam-controller device list")
    return row


def _view(device: Device, user: str, seen: datetime | None) -> DeviceView:
    state: State = "revoked" if device.revoked_at else "approved" if device.approved_at else "waiting"
    return DeviceView(
        id=device.id,
        user=user,
        name=device.name,
        platform=device.platform,
        state=state,
        created_at=device.created_at,
        last_seen_at=seen,
        certified_until=device.next_certified_until or device.certified_until,
        revoked_at=device.revoked_at,
    )
