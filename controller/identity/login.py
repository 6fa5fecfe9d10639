"""Login: what is proved on the owner's device makes a session. The methods are in files of their own (method.py).

Laws:

1. Every refusal of the account or password looks alike and takes as long.
2. What proofs use up is used up in the transaction that makes the session: of two logins with one code, one gets in.
3. One attempt at a time a device, and slower after each failure (attempts.py).
4. The audit log gets the true reason; the person what helps.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select

from certs.errors import BadCertificate
from controller.audit.events import Event, LoginRefused, LoginSucceeded
from controller.identity import rules
from controller.identity.attempts import Attempts
from controller.identity.by_password import ByPassword
from controller.identity.by_totp import ByTotp
from controller.identity.method import Attempt, Lost, Method, Proved, Refused
from controller.identity.passwords import Busy, Passwords
from controller.identity.rules import Account, Reason, Told
from controller.sessions.rows import NoLongerAllowed
from controller.sessions.rules import Starting
from controller.sessions.service import Sessions
from controller.storage.engine import Change, Storage
from controller.storage.models import Device, User
from wire.messages import Ask, LoginReply, LoginRequest, PasswordAsk, PasswordProof

_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class _Asking:
    """One request: who says to be whom, and from where."""

    device: UUID
    source: str
    request: LoginRequest
    now: datetime


class Login:
    """Answers `POST /v1/login`. `domain` is shown in authenticator apps; `further` methods are judged as well."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: Sessions,
        passwords: Passwords,
        domain: str,
        further: Sequence[Method[Any]] = (),
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._note = note
        self._clock = clock
        self._by_password = ByPassword(passwords)
        self._methods: Sequence[Method[Any]] = (self._by_password, ByTotp(storage, domain), *further)
        self._attempts = Attempts()
        self._at_work: set[UUID] = set()

    async def login(self, request: LoginRequest, *, device: UUID, source: str) -> LoginReply:
        """The answer to a login on `device`, whose certificate was checked. Raises StorageUnavailable."""
        asking = _Asking(device, source, request, self._clock())
        if device in self._at_work or self._attempts.wait(device, asking.now) > timedelta(0):
            return self._refused(asking, Refused(Reason.TOO_MANY, rules.TOO_MANY))
        with self._working(device):
            try:
                return await self._answer(asking, await self._look_up(asking))
            except Busy:
                return self._refused(asking, Refused(Reason.BUSY, rules.BUSY))

    @contextmanager
    def _working(self, device: UUID) -> Iterator[None]:
        self._at_work.add(device)
        try:
            yield
        finally:
            self._at_work.discard(device)

    async def _look_up(self, asking: _Asking) -> Account | None:
        """The account of the name, or of the device's owner; as many queries for a name there is not."""
        async with self._storage.read() as db:
            owner = await db.scalar(select(Device.user_id).where(Device.id == asking.device))
            name = asking.request.user
            user = await db.scalar(select(User).where(User.name == name if name is not None else User.id == owner))
            identifier = _NOBODY if user is None else user.id
            set_up = {method.kind for method in self._methods if await method.is_set_up(db, identifier)}
        if user is None:
            return None
        return Account(
            user_id=user.id,
            name=user.name,
            password_hash=user.password_hash,
            disabled=user.disabled_at is not None,
            owns_device=owner == user.id,
            set_up=frozenset(set_up),
        )

    async def _answer(self, asking: _Asking, account: Account | None) -> LoginReply:
        nobody = rules.why_nobody(account)
        if account is None or nobody is not None:
            return await self._decline(asking, nobody or Reason.USER_UNKNOWN)
        attempt = Attempt(account, asking.device, asking.source, asking.now)
        proved: list[Proved] = []
        methods: frozenset[str] = frozenset()
        for method, proof in self._in_order(asking.request):
            if method.second and not methods:
                continue
            outcome = await method.check(attempt, proof)
            if isinstance(outcome, Refused):
                self._attempts.refused(asking.device, asking.now)
                return self._refused(asking, outcome)
            proved.append(outcome)
            methods |= outcome.methods
        if rules.suffices(methods):
            return await self._begin(asking, account, proved, rules.of_session(methods))
        asks = [ask for method in self._methods for ask in await method.asks(attempt, methods)]
        return self._more(asks)

    def _in_order(self, request: LoginRequest) -> list[tuple[Method[Any], Any]]:
        """Each proof with the method that judges it, those that count by themselves first."""
        given = {proof.type: proof for proof in request.proofs}
        pairs = [(method, given[method.kind]) for method in self._methods if method.kind in given]
        return sorted(pairs, key=lambda pair: pair[0].second)

    async def _decline(self, asking: _Asking, reason: str) -> LoginReply:
        """The answer for an account that does not count: what a wrong password gets, no sooner."""
        first = [proof for method, proof in self._in_order(asking.request) if not method.second]
        if not first:
            return self._more([PasswordAsk()])
        for proof in first:
            if isinstance(proof, PasswordProof):
                await self._by_password.decline(proof)
        self._attempts.refused(asking.device, asking.now)
        return self._refused(asking, Refused(reason, rules.BAD_CREDENTIALS))

    async def _begin(
        self, asking: _Asking, account: Account, proved: Sequence[Proved], methods: frozenset[str]
    ) -> LoginReply:
        async def within(change: Change, session: UUID) -> None:
            for each in proved:
                await each.use(change)
                if each.begun is not None:
                    each.begun(change, session)
            change.record(
                LoginSucceeded(
                    user=account.name,
                    device=asking.device,
                    source=asking.source,
                    session=session,
                    methods=tuple(sorted(methods)),
                )
            )

        starting = Starting(
            account.user_id,
            account.name,
            asking.device,
            asking.source,
            asking.request.csr,
            methods,
            rules.second_factor_at([(each.methods, each.proved_at) for each in proved], asking.now),
        )
        try:
            view = await self._sessions.start(starting, within)
        except Lost as lost:
            self._attempts.refused(asking.device, asking.now)
            return self._refused(asking, Refused(lost.reason, lost.told))
        except NoLongerAllowed:
            return self._refused(asking, Refused(Reason.CHANGED_MEANWHILE, rules.OVER))
        except BadCertificate as error:
            told = Told("bad_csr", str(error), "update gloam and try again")
            return self._refused(asking, Refused(Reason.BAD_CSR, told))
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

    def _more(self, asks: Sequence[Ask]) -> LoginReply:
        told = rules.MORE
        return LoginReply(
            status="more",
            asks=tuple(asks),
            code=told.code,
            sentence=told.sentence,
            fix=told.fix,
            time=self._clock(),
        )

    def _refused(self, asking: _Asking, refused: Refused) -> LoginReply:
        user = asking.request.user or ""
        self._note(LoginRefused(user=user, device=asking.device, source=asking.source, code=str(refused.reason)))
        told = refused.told
        return LoginReply(status="refused", code=told.code, sentence=told.sentence, fix=told.fix, time=self._clock())
