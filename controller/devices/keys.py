"""The knock keys the controller admits: one each for open invites, devices and enrolled gateways.

Laws:

1. An invite opens only windows to enrol, a device or gateway only windows for control.
2. Keys follow what is committed, never ahead of it: whoever commits tells this service next.
3. An invite's key is gone once the invite is used or past its end; a device's once the device is revoked.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import select

from certs.names import Name
from certs.secret import Secret
from controller.devices import sealed
from controller.storage.engine import Storage
from controller.storage.models import Device, Gateway, Invite
from spa.admission import Admission
from spa.packet import KnockKind, derive_key
from wire.invite import invite_knock_secret

ENROL: Final = frozenset({KnockKind.ENROL})
CONTROL: Final = frozenset({KnockKind.CONTROL})


class KnockKeys:
    """Keeps `admission` in step with the database. `controller` is the name knocks are derived for."""

    def __init__(self, *, admission: Admission, controller: Name, clock: Callable[[], datetime]) -> None:
        self._admission = admission
        self._controller = controller
        self._clock = clock
        self._invites: dict[UUID, datetime] = {}  # when each ends

    async def fill(self, storage: Storage) -> int:
        """Reads everybody who may knock; answers how many keys there are. Once, at start."""
        now = self._clock()
        async with storage.read() as db:
            devices = (await db.scalars(select(Device).where(Device.revoked_at.is_(None)))).all()
            gateways = (await db.scalars(select(Gateway).where(Gateway.sealed_knock_secret.is_not(None)))).all()
            invites = (await db.scalars(select(Invite).where(Invite.used_at.is_(None), Invite.expires_at > now))).all()
        for device in devices:
            self.put_device(device.id, storage.sealer.open(device.sealed_knock_secret, sealed.device_knock(device.id)))
        for gateway in gateways:
            if gateway.sealed_knock_secret is not None:
                secret = storage.sealer.open(gateway.sealed_knock_secret, sealed.gateway_knock(gateway.id))
                self.put_gateway(gateway.name, secret)
        for invite in invites:
            secret = storage.sealer.open(invite.sealed_secret, sealed.invite_secret(invite.id))
            self.put_invite(invite.id, secret, invite.expires_at)
        return len(devices) + len(gateways) + len(invites)

    def put_device(self, device: UUID, secret: Secret) -> None:
        """This device may knock for control, with this secret."""
        self._put(f"device/{device}", secret, CONTROL)

    def drop_device(self, device: UUID) -> None:
        """This device may not knock any more."""
        self._admission.drop(f"device/{device}")

    def put_gateway(self, name: str, secret: Secret) -> None:
        """This gateway may knock for control, with this secret."""
        self._put(f"gateway/{name}", secret, CONTROL)

    def drop_gateway(self, name: str) -> None:
        """This gateway may not knock any more."""
        self._admission.drop(f"gateway/{name}")

    def put_invite(self, invite: UUID, secret: Secret, expires_at: datetime) -> None:
        """Whoever holds this invite may knock to enrol, until it ends."""
        self._put(f"invite/{invite}", invite_knock_secret(secret), ENROL)
        self._invites[invite] = expires_at

    def drop_invite(self, invite: UUID) -> None:
        """This invite is used, or was taken back."""
        if self._invites.pop(invite, None) is not None:
            self._admission.drop(f"invite/{invite}")

    def expire(self) -> None:
        """Drops the invites whose time is over. Call it now and then."""
        now = self._clock()
        for invite in [each for each, ends in self._invites.items() if ends <= now]:
            self.drop_invite(invite)

    def _put(self, key_id: str, secret: Secret, kinds: frozenset[KnockKind]) -> None:
        now_us = int(self._clock().timestamp() * 1_000_000)
        self._admission.put(key_id, derive_key(secret, self._controller), kinds, now_us)
