"""The rows of those who hold a device's or a gateway's certificate, read and changed alike.

Each function is for use inside a read or a change of the caller's.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Update, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from certs.names import NameKind
from console.address import HostPort
from controller.devices import sealed
from controller.devices.credentials import Credential, Credentials
from controller.storage.conditional import changed_one
from controller.storage.models import Device, Gateway, User

Table = type[Device] | type[Gateway]


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds, what counts for it, and what speaks against it. `hosts` are a gateway's, `context` is for sealing."""

    kind: NameKind
    id: str
    user: str
    credentials: Credentials
    context: str
    hosts: tuple[str, ...] = ()
    blocked: str | None = None  # a code

    def __str__(self) -> str:
        """As the audit log and knock keys name it."""
        return f"{self.kind}/{self.id}"


async def find(db: AsyncSession, kind: NameKind, identifier: str) -> Holder | None:
    """The device of this UUID or the gateway of this name, if it was ever certified."""
    if kind is NameKind.DEVICE:
        return await _device(db, identifier)
    if kind is not NameKind.GATEWAY:
        return None
    row = await db.scalar(select(Gateway).where(Gateway.name == identifier))
    credentials = None if row is None else credentials_of(row)
    if row is None or credentials is None:
        return None
    hosts = (HostPort.parse(row.advertise).host,)
    return Holder(NameKind.GATEWAY, row.name, "", credentials, sealed.gateway_knock(row.id), hosts)


async def _device(db: AsyncSession, identifier: str) -> Holder | None:
    try:
        device = UUID(identifier)
    except ValueError:
        return None
    query = select(Device, User.name, User.disabled_at).outerjoin(User, Device.user_id == User.id)
    found = (await db.execute(query.where(Device.id == device))).one_or_none()
    if found is None:
        return None
    row, user, disabled_at = found
    blocked = "device_revoked" if row.revoked_at else "user_disabled" if disabled_at else None
    credentials = credentials_of(row)
    if credentials is None:
        return None
    context = sealed.device_knock(row.id)
    return Holder(NameKind.DEVICE, str(row.id), user or "", credentials, context, blocked=blocked)


def credentials_of(row: Device | Gateway) -> Credentials | None:
    """What counts for a row; None for a gateway that has not joined."""
    if row.key_sha256 is None or row.sealed_knock_secret is None or row.certified_until is None:
        return None
    present = Credential(row.key_sha256, row.certified_until, row.sealed_knock_secret, row.issuer_id)
    if row.next_key_sha256 is None or row.sealed_next_knock_secret is None or row.next_certified_until is None:
        return Credentials(present)
    following = Credential(
        row.next_key_sha256, row.next_certified_until, row.sealed_next_knock_secret, row.next_issuer_id
    )
    return Credentials(present, following)


async def put_next(db: AsyncSession, holder: Holder, following: Credential, *, platform: str = "") -> bool:
    """Makes `following` the next credential; False if what counts is no longer what `holder` says."""
    table = _table(holder)
    said = {"platform": platform} if platform and holder.kind is NameKind.DEVICE else {}
    values = {
        "next_key_sha256": following.key_sha256,
        "next_certified_until": following.certified_until,
        "sealed_next_knock_secret": following.sealed_knock_secret,
        "next_issuer_id": following.issuer,
        **said,
    }
    same = table.key_sha256 == holder.credentials.present.key_sha256
    return await changed_one(db, _of(holder, same).values(**values))


async def promote(db: AsyncSession, holder: Holder) -> bool:
    """Lets the next credential take the present one's place; False if somebody else did, or it is another by now."""
    table, following = _table(holder), holder.credentials.next
    if following is None:
        return False
    same = table.next_key_sha256 == following.key_sha256
    taking = _of(holder, same).values(
        key_sha256=following.key_sha256,
        certified_until=following.certified_until,
        sealed_knock_secret=following.sealed_knock_secret,
        issuer_id=following.issuer,
        next_issuer_id=None,
        next_key_sha256=None,
        next_certified_until=None,
        sealed_next_knock_secret=None,
    )
    return await changed_one(db, taking)


def _table(holder: Holder) -> Table:
    return Device if holder.kind is NameKind.DEVICE else Gateway


def _of(holder: Holder, condition: ColumnElement[bool]) -> Update:
    if holder.kind is NameKind.DEVICE:
        return update(Device).where(Device.id == UUID(holder.id), Device.revoked_at.is_(None), condition)
    return update(Gateway).where(Gateway.name == holder.id, condition)
