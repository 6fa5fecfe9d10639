"""The knock keys the controller admits: of open invites, devices and enrolled gateways.

Laws:

1. An invite opens only windows to enrol; a device or gateway only windows for control, and windows to enrol as well
   once its certificate has ended: it may then recover (renewal.py).
2. Keys follow what is committed, never ahead of it: whoever commits tells this service next.
3. An invite's key is gone once the invite is used or past its end. A revoked device's opens nothing, and is known for
   `REMEMBERED`: who comes back with a stolen machine is in the audit log.
4. A device or gateway has two keys from a renewal until a while after the first use of the new one.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Final
from uuid import UUID

from sqlalchemy import or_, select

from certs.names import Name
from certs.secret import Secret
from controller.devices import sealed
from controller.devices.holders import credentials_of
from controller.storage.engine import Storage
from controller.storage.models import Device, Gateway, Invite
from spa.admission import Admission
from spa.packet import KnockKind, derive_key
from wire.invite import invite_knock_secret

ENROL: Final = frozenset({KnockKind.ENROL})
CONTROL: Final = frozenset({KnockKind.CONTROL})
ENDED: Final = CONTROL | ENROL
REMEMBERED: Final = timedelta(days=30)
"""A device that could not be renewed for longer does not come back by itself."""


class KnockKeys:
    """Keeps `admission` in step with the database. `controller` is the name knocks are derived for.

    `forgotten` hears of each key id that may not knock any more: the windows it opened are to be closed.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        controller: Name,
        clock: Callable[[], datetime],
        forgotten: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._forgotten = forgotten
        self._admission = admission
        self._controller = controller
        self._clock = clock
        self._invites: dict[UUID, datetime] = {}  # when each ends
        self._certified: dict[str, float] = {}  # until when, in seconds since 1970, by key id
        self._ends: list[tuple[float, str]] = []  # a heap; what `_certified` does not say any more is passed over
        self._revoked: dict[str, datetime] = {}  # since when, by key id

    async def fill(self, storage: Storage) -> int:
        """Reads everybody who may knock; answers how many keys there are. Once, at start."""
        now = self._clock()
        async with storage.read() as db:
            known = or_(Device.revoked_at.is_(None), Device.revoked_at > now - REMEMBERED)
            devices = (await db.scalars(select(Device).where(known))).all()
            gateways = (await db.scalars(select(Gateway).where(Gateway.sealed_knock_secret.is_not(None)))).all()
            invites = (await db.scalars(select(Invite).where(Invite.used_at.is_(None), Invite.expires_at > now))).all()
        for device in devices:
            self._put_row(f"device/{device.id}", device, storage, sealed.device_knock(device.id))
            if device.revoked_at is not None:
                self._shut_out(f"device/{device.id}", device.revoked_at)
        for gateway in gateways:
            self._put_row(f"gateway/{gateway.name}", gateway, storage, sealed.gateway_knock(gateway.id))
        for invite in invites:
            secret = storage.sealer.open(invite.sealed_secret, sealed.invite_secret(invite.id))
            self.put_invite(invite.id, secret, invite.expires_at)
        return len(devices) - len(self._revoked) + len(gateways) + len(invites)

    def put(self, holder: str, secrets: Sequence[Secret], certified_until: datetime) -> None:
        """`holder` ("device/ID", "gateway/NAME") may knock for control with these secrets, the newest first, alone."""
        now_us = self._now_us()
        first, *others = (derive_key(secret, self._controller) for secret in secrets)
        self._admission.put(holder, first, CONTROL, now_us)
        for other in others:
            self._admission.put_also(holder, other, CONTROL, now_us)
        self.certified(holder, certified_until)

    def certified(self, holder: str, until: datetime) -> None:
        """The certificate of `holder` ends then; from then on it may knock to recover."""
        end = until.timestamp()
        self._certified[holder] = end
        heappush(self._ends, (end, holder))
        self._admission.allow(holder, ENDED if end < self._clock().timestamp() else CONTROL)

    def drop(self, holder: str) -> None:
        """`holder` may not knock any more."""
        self._certified.pop(holder, None)
        self._admission.drop(holder)
        self._forgotten(holder)

    def revoke_device(self, device: UUID) -> None:
        """This device's knocks open nothing any more."""
        holder = f"device/{device}"
        self._shut_out(holder, self._clock())
        self._forgotten(holder)

    def is_revoked(self, holder: str) -> bool:
        """Whether a key that is known belongs to a device that was revoked."""
        return holder in self._revoked

    def _shut_out(self, holder: str, since: datetime) -> None:
        self._certified.pop(holder, None)
        self._admission.allow(holder, frozenset())
        self._revoked[holder] = since

    def drop_gateway(self, name: str) -> None:
        """This gateway may not knock any more."""
        self.drop(f"gateway/{name}")

    def put_invite(self, invite: UUID, secret: Secret, expires_at: datetime) -> None:
        """Whoever holds this invite may knock to enrol, until it ends."""
        key = derive_key(invite_knock_secret(secret), self._controller)
        self._admission.put(f"invite/{invite}", key, ENROL, self._now_us())
        self._invites[invite] = expires_at

    def drop_invite(self, invite: UUID) -> None:
        """This invite is used, or was taken back."""
        if self._invites.pop(invite, None) is not None:
            self._admission.drop(f"invite/{invite}")
            self._forgotten(f"invite/{invite}")

    def expire(self) -> None:
        """Drops the invites whose time is over, lets recover whose certificate has ended. Call it every second."""
        now = self._clock()
        for invite in [each for each, ends in self._invites.items() if ends <= now]:
            self.drop_invite(invite)
        for holder in [each for each, since in self._revoked.items() if since + REMEMBERED <= now]:
            del self._revoked[holder]
            self._admission.drop(holder)
        while self._ends and self._ends[0][0] < now.timestamp():
            end, holder = heappop(self._ends)
            if self._certified.get(holder) == end:
                self._admission.allow(holder, ENDED)

    def _put_row(self, holder: str, row: Device | Gateway, storage: Storage, context: str) -> None:
        credentials = credentials_of(row)
        if credentials is not None:
            secrets = [storage.sealer.open(each.sealed_knock_secret, context) for each in credentials.newest_first]
            self.put(holder, secrets, credentials.present.certified_until)

    def _now_us(self) -> int:
        return int(self._clock().timestamp() * 1_000_000)
