"""Login: a password and a code, on the owner's device, make a session.

Laws:

1. Every refusal of the account or password looks alike and takes as long: a decoy is hashed for those there are not.
2. A code's step is accepted by a conditional UPDATE of one row, in the transaction that makes the session: of two
   logins with one code at once, one gets in.
3. One attempt at a time a device, and slower after each failure (attempts.py).
4. The audit log gets the true reason; the person what helps.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from certs.errors import BadCertificate
from certs.secret import Secret
from controller.audit.events import Event, LoginRefused, LoginSucceeded, TotpEnrolled
from controller.identity import rules, totp
from controller.identity.attempts import Attempts
from controller.identity.passwords import Busy, Checked, Passwords
from controller.identity.rules import Account, AskCode, Authenticator, Proven, Reason, SetUp, Told
from controller.sessions.rows import NoLongerAllowed
from controller.sessions.rules import Starting
from controller.sessions.service import Sessions
from controller.storage.conditional import changed_one
from controller.storage.engine import Change, Storage
from controller.storage.models import Device, Totp, User
from wire.messages import LoginReply, LoginRequest, TotpEnrolment

_NOBODY: Final = UUID(int=0)


class _Lost(Exception):  # noqa: N818 - it rolls a transaction back, and is an answer
    """What was true when we looked is not any more."""

    def __init__(self, reason: str, told: Told) -> None:
        super().__init__(reason)
        self.reason = reason
        self.told = told


@dataclass(frozen=True, slots=True)
class _Asking:
    """One attempt: who says to be whom, and from where."""

    device: UUID
    source: str
    request: LoginRequest
    now: datetime


class Login:
    """Answers `POST /v1/login`. `domain` is shown in authenticator apps."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: Sessions,
        passwords: Passwords,
        domain: str,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._passwords = passwords
        self._domain = domain
        self._note = note
        self._clock = clock
        self._attempts = Attempts()
        self._at_work: set[UUID] = set()

    async def login(self, request: LoginRequest, *, device: UUID, source: str) -> LoginReply:
        """The answer to a login on `device`, whose certificate was checked. Raises StorageUnavailable."""
        asking = _Asking(device, source, request, self._clock())
        if device in self._at_work or self._attempts.wait(device, asking.now) > timedelta(0):
            return self._refused(asking, Reason.TOO_MANY, rules.TOO_MANY)
        with self._working(device):
            account, row = await self._look_up(asking)
            try:
                checked = await self._passwords.check(rules.hash_to_check(account), request.password)
            except Busy:
                return self._refused(asking, Reason.BUSY, rules.BUSY)
            reason = rules.why_refused(account, matches=checked.matches)
            if account is None or reason is not None:
                self._attempts.refused(device, asking.now)
                return self._refused(asking, reason or Reason.USER_UNKNOWN, rules.BAD_CREDENTIALS)
            return await self._second_factor(asking, account, None if row is None else self._opened(row), checked)

    @contextmanager
    def _working(self, device: UUID) -> Iterator[None]:
        self._at_work.add(device)
        try:
            yield
        finally:
            self._at_work.discard(device)

    async def _look_up(self, asking: _Asking) -> tuple[Account | None, Totp | None]:
        """The account of the name, and its authenticator's row; as many queries for a name there is not."""
        async with self._storage.read() as db:
            user = await db.scalar(select(User).where(User.name == asking.request.user))
            owner = await db.scalar(select(Device.user_id).where(Device.id == asking.device))
            row = await db.get(Totp, _NOBODY if user is None else user.id)
        if user is None:
            return None, None
        account = Account(
            user_id=user.id,
            name=user.name,
            password_hash=user.password_hash,
            disabled=user.disabled_at is not None,
            owns_device=owner == user.id,
        )
        return account, row

    async def _second_factor(
        self, asking: _Asking, account: Account, authenticator: Authenticator | None, checked: Checked
    ) -> LoginReply:
        step = rules.second_factor(authenticator, asking.request.otp, asking.now)
        match step:
            case SetUp(known):
                secret = known.secret if known is not None else await self._new_authenticator(account, asking.now)
                uri = totp.provisioning_uri(secret, user=account.name, domain=self._domain)
                return LoginReply(
                    status="totp_enrolment",
                    code="totp_enrolment",
                    sentence="scan this with an authenticator app",
                    fix="log in again with the code it shows",
                    totp=TotpEnrolment(uri=uri),
                    time=self._clock(),
                )
            case AskCode():
                return LoginReply(
                    status="otp_needed",
                    code="otp_needed",
                    sentence="the code of your authenticator is needed",
                    fix="type the six digits it shows",
                    time=self._clock(),
                )
            case totp.Refused(why):
                self._attempts.refused(asking.device, asking.now)
                return self._refused(asking, why, rules.CODES[why])
            case Proven():
                return await self._begin(asking, account, step, checked)
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _begin(self, asking: _Asking, account: Account, proven: Proven, checked: Checked) -> LoginReply:
        async def within(change: Change, session: UUID) -> None:
            await self._accept_step(change, asking, account, proven)
            if checked.rehash is not None:
                same = (User.id == account.user_id, User.password_hash == account.password_hash)
                await change.db.execute(update(User).where(*same).values(password_hash=checked.rehash))
            await self._still_the_same(change.db, account, checked)
            change.record(
                LoginSucceeded(user=account.name, device=asking.device, source=asking.source, session=session)
            )

        starting = Starting(account.user_id, account.name, asking.device, asking.source, asking.request.csr)
        try:
            view = await self._sessions.start(starting, within)
        except _Lost as lost:
            self._attempts.refused(asking.device, asking.now)
            return self._refused(asking, lost.reason, lost.told)
        except NoLongerAllowed:
            return self._refused(asking, Reason.CHANGED_MEANWHILE, rules.OVER)
        except BadCertificate as error:
            return self._refused(asking, Reason.BAD_CSR, Told("bad_csr", str(error), "update gloam and try again"))
        self._attempts.succeeded(asking.device)
        pending = self._sessions.standing(view.id)
        if pending is None:
            return LoginReply(status="done", session=view, time=self._clock())
        return LoginReply(
            status="done",
            code=pending.code,
            sentence=pending.sentence,
            fix=pending.fix,
            session=view,
            time=self._clock(),
        )

    async def _accept_step(self, change: Change, asking: _Asking, account: Account, proven: Proven) -> None:
        """Uses the code up, and confirms an authenticator whose first it is. _Lost if somebody was faster (law 2)."""
        known = proven.authenticator
        unused = (
            Totp.user_id == account.user_id,
            Totp.sealed_secret == known.sealed,
            or_(Totp.last_step.is_(None), Totp.last_step < proven.step),
        )
        values: dict[str, object] = {"last_step": proven.step}
        if not known.confirmed:
            values["confirmed_at"] = asking.now
        if not await changed_one(change.db, update(Totp).where(*unused).values(**values)):
            raise _Lost(totp.Reason.USED, rules.CODES[totp.Reason.USED])
        if not known.confirmed:
            change.record(TotpEnrolled(user=account.name, device=asking.device, source=asking.source))

    @staticmethod
    async def _still_the_same(db: AsyncSession, account: Account, checked: Checked) -> None:
        """The password was checked outside the transaction: it may have been changed since, because it was stolen."""
        now = await db.scalar(select(User.password_hash).where(User.id == account.user_id))
        if now not in {account.password_hash, checked.rehash}:
            raise _Lost(Reason.CHANGED_MEANWHILE, rules.OVER)

    async def _new_authenticator(self, account: Account, now: datetime) -> Secret:
        """Stores a new secret, unless somebody stored one meanwhile; answers the one that is stored."""
        async with self._storage.change() as change:
            row = await change.db.get(Totp, account.user_id)
            if row is not None:
                return self._opened(row).secret
            secret = totp.new_secret()
            change.db.add(
                Totp(
                    user_id=account.user_id,
                    sealed_secret=self._storage.sealer.seal(secret, _context(account.user_id)),
                    created_at=now,
                    confirmed_at=None,
                    last_step=None,
                )
            )
        return secret

    def _opened(self, row: Totp) -> Authenticator:
        return Authenticator(
            secret=self._storage.sealer.open(row.sealed_secret, _context(row.user_id)),
            sealed=row.sealed_secret,
            confirmed=row.confirmed_at is not None,
            last_step=row.last_step,
        )

    def _refused(self, asking: _Asking, reason: str, told: Told) -> LoginReply:
        self._note(LoginRefused(user=asking.request.user, device=asking.device, source=asking.source, code=str(reason)))
        return LoginReply(status="refused", code=told.code, sentence=told.sentence, fix=told.fix, time=self._clock())


def _context(user: UUID) -> str:
    """What a user's authenticator secret is sealed for."""
    return f"totp/{user}/secret"
