"""Login: what is proved on the owner's device makes a session, or brings new life into the one that is there.

Laws:

1. What proofs use up is used up in the transaction that makes the session: of two logins with one code, one gets in.
2. A step-up proves a second factor again, for the live session of the device: tunnels live on, nothing is issued anew.
3. Whoever sets up their first authenticator gets backup codes, shown once.
4. The audit log gets the true reason; the person what helps.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never
from uuid import UUID

from certs.errors import BadCertificate
from controller.audit.events import Event, LoginRefused, LoginSucceeded
from controller.identity import rules, throttle
from controller.identity.backup import start_with
from controller.identity.method import Lost, Refused
from controller.identity.proving import Asking, More, Proving, Settled
from controller.identity.rules import MFA, Reason, Told
from controller.sessions.rows import NoLongerAllowed
from controller.sessions.rules import Starting, SteppedUp, of_device
from controller.sessions.service import Sessions
from controller.storage.engine import Change
from wire.messages import LoginReply, LoginRequest, SessionView


@dataclass(slots=True)
class _Shown:
    """What the person sees once, known when the transaction was committed."""

    backup_codes: tuple[str, ...] = field(default=(), repr=False)


class Login:
    """Answers `POST /v1/login`."""

    def __init__(
        self,
        *,
        proving: Proving,
        sessions: Sessions,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._proving = proving
        self._sessions = sessions
        self._note = note
        self._clock = clock

    async def login(self, request: LoginRequest, *, device: UUID, source: str) -> LoginReply:
        """The answer to a login on `device`, whose certificate was checked. Raises StorageUnavailable."""
        before = rules.LIVE if request.step_up else frozenset[str]()
        asking = Asking(device, source, request.user, request.proofs, self._clock(), before)
        live = of_device(self._sessions.live(), device) if request.step_up else None
        if live is not None and live.of_service and request.user in {None, live.user}:
            return self._refused(asking, Refused(Reason.NOT_FOR_SERVICES, rules.NOT_FOR_SERVICES))
        if request.step_up and (live is None or MFA not in live.methods or request.user not in {None, live.user}):
            return self._refused(asking, Refused(Reason.NO_SESSION, rules.NO_SESSION))
        outcome = await self._proving.prove(asking)
        match outcome:
            case Refused():
                return self._refused(asking, outcome)
            case More(asks):
                more = rules.MORE
                return LoginReply(
                    status="more",
                    asks=asks,
                    code=more.code,
                    sentence=more.sentence,
                    fix=more.fix,
                    time=self._clock(),
                )
            case Settled():
                return await self._settle(asking, outcome, request.csr, None if live is None else live.id)
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _settle(self, asking: Asking, settled: Settled, csr: str, live: UUID | None) -> LoginReply:
        shown = _Shown()
        within = self._within(asking, settled, shown)
        account, methods = settled.account, settled.methods
        try:
            if live is not None:
                proved = SteppedUp(settled.second_factor_at, methods)
                view: SessionView | None = await self._sessions.step_up(live, asking.device, proved, within)
            else:
                starting = Starting(
                    account.user_id, account.name, asking.device, asking.source, csr, methods, settled.second_factor_at
                )
                view = await self._sessions.start(starting, within)
        except Lost as lost:
            return self._refused(asking, await self._proving.lost(asking, lost))
        except NoLongerAllowed:
            return self._refused(asking, Refused(Reason.CHANGED_MEANWHILE, rules.OVER))
        except BadCertificate as error:
            told = Told("bad_csr", str(error), "update gloam and try again")
            return self._refused(asking, Refused(Reason.BAD_CSR, told))
        if view is None:
            return self._refused(asking, Refused(Reason.NO_SESSION, rules.NO_SESSION))
        pending = self._sessions.standing(view.id)
        told = Told("ok", "", "") if pending is None else Told(pending.code, pending.sentence, pending.fix)
        return LoginReply(
            status="done",
            code=told.code,
            sentence=told.sentence,
            fix=told.fix,
            session=view,
            backup_codes=shown.backup_codes,
            time=self._clock(),
        )

    @staticmethod
    def _within(asking: Asking, settled: Settled, shown: _Shown) -> Callable[[Change, UUID], Awaitable[None]]:
        """What is done in the transaction of the session, before anything of it is written."""
        account = settled.account

        async def within(change: Change, session: UUID) -> None:
            await settled.use_up(change)
            for each in settled.proved:
                if each.begun is not None and not asking.before:
                    each.begun(change, session)
            await throttle.forget(change, asking.device)
            if any(each.enrols for each in settled.proved):
                shown.backup_codes = await start_with(change, account.user_id, account.name, asking.now)
            change.record(
                LoginSucceeded(
                    user=account.name,
                    device=asking.device,
                    source=asking.source,
                    session=session,
                    methods=tuple(sorted(settled.methods)),
                )
            )

        return within

    def _refused(self, asking: Asking, refused: Refused) -> LoginReply:
        event = LoginRefused(
            user=asking.user or "", device=asking.device, source=asking.source, code=str(refused.reason)
        )
        self._note(event)
        told = refused.told
        return LoginReply(status="refused", code=told.code, sentence=told.sentence, fix=told.fix, time=self._clock())
