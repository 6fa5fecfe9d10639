"""A new authenticator in the place of the old one.

It is shown to the device that proved enough, and takes the old one's place once that device has given a code of it,
within `CONFIRM_WITHIN`. Until then the old one counts.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select

from controller.audit.events import TotpReplaced
from controller.identity import rules, throttle, totp
from controller.identity.by_totp import context
from controller.identity.method import Lost
from controller.identity.proving import Asking
from controller.identity.rules import Account, Reason
from controller.storage.engine import Change, Storage
from controller.storage.models import NextTotp, Totp

CONFIRM_WITHIN: Final = timedelta(minutes=10)


class Authenticators:
    """Offers and confirms. `domain` is shown in authenticator apps."""

    def __init__(self, storage: Storage, domain: str) -> None:
        self._storage = storage
        self._domain = domain

    async def offer(self, change: Change, asking: Asking, account: Account) -> str:
        """Keeps a new authenticator's secret beside the old one's; answers its URI."""
        secret = totp.new_secret()
        sealed = self._storage.sealer.seal(secret, context(account.user_id))
        until = asking.now + CONFIRM_WITHIN
        offered = NextTotp(user_id=account.user_id, device_id=asking.device, sealed_secret=sealed, expires_at=until)
        await change.db.merge(offered)
        return totp.provisioning_uri(secret, user=account.name, domain=self._domain)

    async def confirm(self, asking: Asking, account: Account, code: str) -> None:
        """Puts the new authenticator in the old one's place. Raises Lost, StorageUnavailable."""
        user = account.user_id
        async with self._storage.read() as db:
            mine = (NextTotp.user_id == user, NextTotp.device_id == asking.device, NextTotp.expires_at > asking.now)
            offered = await db.scalar(select(NextTotp.sealed_secret).where(*mine))
        if offered is None:
            raise Lost("authenticator_not_offered", rules.NOT_OFFERED)
        secret = self._storage.sealer.open(offered, context(user))
        judged = totp.verify(secret, code, now=asking.now, last_step=None)
        if isinstance(judged, totp.Refused):
            raise Lost(judged.reason, rules.CODES[judged.reason])
        async with self._storage.change() as change:
            taken = delete(NextTotp).where(NextTotp.user_id == user, NextTotp.sealed_secret == offered)
            if not (await change.db.scalars(taken.returning(NextTotp.user_id))).all():
                raise Lost(Reason.CHANGED_MEANWHILE, rules.OVER)
            await change.db.merge(
                Totp(
                    user_id=user,
                    sealed_secret=offered,
                    created_at=asking.now,
                    confirmed_at=asking.now,
                    last_step=judged.step,
                )
            )
            await throttle.forget(change, asking.device)
            change.record(TotpReplaced(user=account.name, device=asking.device, source=asking.source))
