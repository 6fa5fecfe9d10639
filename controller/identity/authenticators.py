"""A new authenticator in the place of the old one.

1. It is shown to the device that proved enough, and takes the old one's place once that device has given a code of it,
   within `CONFIRM_WITHIN`. Until then the old one counts.
2. An offer is void once anything else changed about how its person proves who they are (`withdraw`), and once the
   authenticator that it was to replace is another one: who takes an account back must not lose it again to what the
   thief began.
"""

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from controller.audit.events import TotpOffered, TotpReplaced
from controller.identity import rules, throttle, totp
from controller.identity.by_totp import context
from controller.identity.method import Lost
from controller.identity.proving import Asking
from controller.identity.rules import Account, Reason
from controller.sessions.rows import knock_secrets_of
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
        change.record(TotpOffered(user=account.name, device=asking.device, source=asking.source))
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
            until = (await change.db.scalars(taken.returning(NextTotp.expires_at))).one_or_none()
            if until is None or await _began_since(change.db, user, until - CONFIRM_WITHIN):
                raise Lost(Reason.CHANGED_MEANWHILE, rules.OVER)
            await still_counts(change, asking, account)
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


async def withdraw(db: AsyncSession, user: UUID) -> None:
    """What was offered to this user does not count any more."""
    await db.execute(delete(NextTotp).where(NextTotp.user_id == user))


async def still_counts(change: Change, asking: Asking, account: Account) -> None:
    """Raises Lost if the user was disabled or the device revoked meanwhile."""
    if not await knock_secrets_of(change.db, account.user_id, asking.device):
        raise Lost(Reason.CHANGED_MEANWHILE, rules.OVER)


async def _began_since(db: AsyncSession, user: UUID, offered: datetime) -> bool:
    """Whether the authenticator in use was begun after that."""
    begun = await db.scalar(select(Totp.created_at).where(Totp.user_id == user))
    return begun is not None and begun > offered
