"""Accounts: people change how they prove who they are. Every change takes the proofs that a login takes.

Laws:

1. What proofs use up is used up in the transaction that makes the change; every change is in the audit log.
2. A new password is strong enough (strength.py). The sessions there are live on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never
from uuid import UUID

from sqlalchemy import update

from controller.audit.events import AccountChangeRefused, Event, PasswordChanged
from controller.errors import Refused as NotAllowed
from controller.identity import backup, rules, throttle
from controller.identity.authenticators import Authenticators, still_counts, withdraw
from controller.identity.method import Lost, Refused
from controller.identity.passwords import Busy, Passwords
from controller.identity.proving import Asking, More, Proving, Settled
from controller.identity.rules import Account, Reason, Told
from controller.sessions.service import Sessions
from controller.storage.engine import Change, Storage
from controller.storage.models import User
from wire.messages import (
    AccountChange,
    AccountReply,
    AccountRequest,
    ConfirmAuthenticator,
    NewAuthenticator,
    NewBackupCodes,
    NewPassword,
)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a change gives."""

    backup_codes: tuple[str, ...] = field(default=(), repr=False)
    totp_uri: str | None = field(default=None, repr=False)


class Accounts:
    """Answers `POST /v1/account`. `domain` is shown in authenticator apps."""

    def __init__(
        self,
        *,
        storage: Storage,
        proving: Proving,
        passwords: Passwords,
        sessions: Sessions,
        domain: str,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._proving = proving
        self._passwords = passwords
        self._sessions = sessions
        self._domain = domain
        self._authenticators = Authenticators(storage, domain)
        self._note = note
        self._clock = clock

    async def change(self, request: AccountRequest, *, device: UUID, source: str) -> AccountReply:
        """The answer to a change asked for on `device`, whose certificate was checked. Raises StorageUnavailable."""
        asking = Asking(device, source, request.user, request.proofs, self._clock())
        if isinstance(request.change, ConfirmAuthenticator):
            return await self._confirm(asking, request, request.change.code)
        outcome = await self._proving.prove(asking)
        match outcome:
            case Refused():
                return self._refused(asking, request, outcome)
            case More(asks):
                more = rules.MORE
                return AccountReply(
                    status="more",
                    asks=asks,
                    code=more.code,
                    sentence=more.sentence,
                    fix=more.fix,
                    time=self._clock(),
                )
            case Settled() if outcome.account.service:
                return self._refused(asking, request, Refused(Reason.NOT_FOR_SERVICES, rules.NOT_FOR_SERVICES))
            case Settled():
                return await self._apply(asking, request, outcome)
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _apply(self, asking: Asking, request: AccountRequest, settled: Settled) -> AccountReply:
        account, asked, new_hash = settled.account, request.change, ""
        try:
            if isinstance(asked, NewPassword):
                new_hash = await self._passwords.hash_new(asked.password, account.name, self._domain)
            async with self._storage.change() as change:
                await settled.use_up(change)
                await still_counts(change, asking, account)
                await throttle.forget(change, asking.device)
                given = await self._make(change, asking, account, asked, new_hash)
        except NotAllowed as weak:
            return self._refused(asking, request, Refused(weak.code, Told(weak.code, weak.what, weak.fix)))
        except Busy:
            return self._refused(asking, request, Refused(Reason.BUSY, rules.BUSY))
        except Lost as lost:
            return self._refused(asking, request, await self._proving.lost(asking, lost))
        if given.backup_codes:
            self._sessions.backup_codes_made(account.user_id, len(given.backup_codes))
        return AccountReply(status="done", backup_codes=given.backup_codes, totp_uri=given.totp_uri, time=self._clock())

    async def _make(
        self, change: Change, asking: Asking, account: Account, asked: AccountChange, new_hash: str
    ) -> _Given:
        match asked:
            case NewBackupCodes():
                return _Given(await backup.replace(change, account.user_id, account.name, asking.now))
            case NewPassword():
                mine = User.id == account.user_id
                await change.db.execute(update(User).where(mine).values(password_hash=new_hash))
                await withdraw(change.db, account.user_id)
                change.record(PasswordChanged(user=account.name, device=asking.device, source=asking.source))
                return _Given()
            case NewAuthenticator():
                return _Given(totp_uri=await self._authenticators.offer(change, asking, account))
            case ConfirmAuthenticator():
                return _Given()  # it has an answer of its own
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _confirm(self, asking: Asking, request: AccountRequest, code: str) -> AccountReply:
        async with self._proving.guessing(asking) as guess:
            if isinstance(guess, Refused):
                return self._refused(asking, request, guess)
            try:
                await self._authenticators.confirm(asking, guess, code)
            except Lost as lost:
                return self._refused(asking, request, await self._proving.lost(asking, lost))
        return AccountReply(status="done", time=self._clock())

    def _refused(self, asking: Asking, request: AccountRequest, refused: Refused) -> AccountReply:
        self._note(
            AccountChangeRefused(
                user=asking.user or "",
                device=asking.device,
                source=asking.source,
                what=request.change.type,
                code=str(refused.reason),
            )
        )
        told = refused.told
        return AccountReply(status="refused", code=told.code, sentence=told.sentence, fix=told.fix, time=self._clock())
