"""Sessions that a provider's word began are confirmed by it again and again.

Laws:

1. Every `recheck` of the registration the provider is asked with the session's refresh token. Its groups are those
   of the answer from then on.
2. A refusal ends the session at once, and so does a token that does not count. An identity that is no longer the
   user's ends it before the provider is asked: no outage keeps it alive.
3. A provider that cannot answer (no connection, a server's error, nonsense, our client refused) ends it only after
   `grace` more without a confirmation, and then without another question: an answer that is waited for, for this
   session or for others, holds no end up. So does one that gave no refresh token: nothing can be confirmed then.
4. A refresh token is stored sealed for its session, and deleted with the session's end. A new one replaces it; until
   the database has taken it, it is kept in memory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import structlog
from sqlalchemy import delete, or_, select, update

from certs.secret import Secret
from controller.audit.events import Event, ProviderTrouble
from controller.errors import StorageError
from controller.identity.oidc import rules, told
from controller.identity.oidc.client import ProviderClient, Refused
from controller.identity.oidc.conversations import Proved
from controller.identity.oidc.http import Misbehaved, Unreachable
from controller.identity.oidc.identities import UNLINKED, Identities
from controller.identity.oidc.providers import REMOVED, Providers
from controller.identity.oidc.rules import Registration
from controller.identity.oidc.tokens import BadToken, Expected, IdToken
from controller.sessions.service import Sessions
from controller.storage.engine import Change, Storage
from controller.storage.models import FederatedIdentity, Session
from controller.storage.models import FederatedSession as Row

PERIOD: Final = 2.0
"""Seconds between two looks at what is due."""
RETRY: Final = timedelta(minutes=1)
"""Between two questions to a provider that does not answer."""
AT_ONCE: Final = 8
"""Sessions that are confirmed at the same time: a provider is asked by one perimeter, not stormed."""
OURS: Final = frozenset({"invalid_client", "temporarily_unavailable", "server_error", "slow_down"})
"""Refusals that say nothing about the person: our registration is wrong there, or the provider has trouble."""

log = structlog.get_logger("oidc")


class _No(Exception):  # noqa: N818 - an answer
    """The provider does not confirm the session."""


class Rechecks:
    """Confirms sessions; `run` while the controller serves."""

    def __init__(
        self,
        *,
        storage: Storage,
        sessions: Sessions,
        providers: Providers,
        identities: Identities,
        client: ProviderClient,
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._providers = providers
        self._identities = identities
        self._client = client
        self._note = note
        self._clock = clock
        self._held: dict[UUID, Secret] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)

    def begin(self, change: Change, session: UUID, proved: Proved) -> None:
        """Inside the change that begins a session: from now on it is one to confirm."""
        now, refresh = self._clock(), proved.refresh
        change.db.add(
            Row(
                session_id=session,
                issuer=proved.issuer,
                subject=proved.subject,
                sealed_refresh=None
                if refresh is None
                else self._storage.sealer.seal(refresh, refresh_context(session)),
                confirmed_at=now,
                asked_at=now,
            )
        )

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_again(self.sweep))
            group.create_task(_again(self.end_overdue))

    async def end_overdue(self) -> None:
        """Ends what a provider that does not answer has left unconfirmed for too long (law 3)."""
        registrations = await self._registrations()
        unanswered = select(Row).join(Session, Session.id == Row.session_id).where(
            Session.ended_at.is_(None), Row.asked_at > Row.confirmed_at
        )  # fmt: skip
        async with self._storage.read() as db:
            found = list(await db.scalars(unanswered))
        async with asyncio.TaskGroup() as group:  # one gateway that lags is waited for once, not once a session
            for row in found:
                registration = registrations.get(row.issuer)
                if registration is not None and self._clock() >= _deadline(row, registration):
                    group.create_task(self._end_unconfirmed(row, registration))

    async def sweep(self) -> None:
        """Confirms what is due; forgets what has ended."""
        registrations = await self._registrations()
        now = self._clock()
        soonest = min((min(each.recheck, RETRY) for each in registrations.values()), default=timedelta(0))
        mine = (
            (FederatedIdentity.issuer == Row.issuer)
            & (FederatedIdentity.subject == Row.subject)
            & (FederatedIdentity.user_id == Session.user_id)
        )
        query = (
            select(Row, Session.ended_at, FederatedIdentity.user_id)
            .join(Session, Session.id == Row.session_id)
            .outerjoin(FederatedIdentity, mine)
        )
        async with self._storage.read() as db:
            due = or_(Session.ended_at.is_not(None), Row.asked_at <= now - soonest)
            found = (await db.execute(query.where(due))).all()
        ended = {row.session_id for row, ended_at, _ in found if ended_at is not None}
        if ended:
            async with self._storage.change() as change:
                await change.db.execute(delete(Row).where(Row.session_id.in_(ended)))
            for session in ended:
                self._held.pop(session, None)
        async with asyncio.TaskGroup() as group:
            for row, user in ((row, user) for row, ended_at, user in found if ended_at is None):
                registration = registrations.get(row.issuer)
                if user is None or registration is None or now - row.asked_at >= _pause(row, registration):
                    group.create_task(self._look(row, user, registration))

    async def _look(self, row: Row, user: UUID | None, registration: Registration | None) -> None:
        async with self._at_once:
            try:
                if registration is None:
                    await self._sessions.end(row.session_id, "provider_removed", REMOVED, "")
                elif user is None:
                    await self._sessions.end(row.session_id, "unlinked", UNLINKED, "")
                else:
                    await self._confirm(row, registration)
            except StorageError as error:
                log.warning("a session of a provider waits for the database", reason=error.what)
            except Exception:  # one session's trouble, whatever it is, is no other's; it is asked about again
                log.exception("a session could not be confirmed", session=str(row.session_id))

    async def _confirm(self, row: Row, registration: Registration) -> None:
        name = registration.name
        try:
            await self._ask(row, registration)
        except (Unreachable, Misbehaved) as error:
            await self._trouble(row, registration, type(error).__name__.lower(), str(error))
        except (_No, rules.BadClaim) as error:
            self._note(ProviderTrouble(provider=name, session=row.session_id, code="refused", detail=str(error)))
            sentence = f"the identity provider {name} no longer confirms your login"
            await self._sessions.end(row.session_id, "provider_refused", sentence, f"oidc/{name}")

    async def _ask(self, row: Row, registration: Registration) -> None:
        """Raises Unreachable, Misbehaved where the answer is not known, _No where it is no."""
        refresh = self._held.get(row.session_id)
        if refresh is None and row.sealed_refresh is not None:
            refresh = self._storage.sealer.open(row.sealed_refresh, refresh_context(row.session_id))
        if refresh is None:
            raise Unreachable("it gave no refresh token to ask with")
        try:
            tokens = await self._client.refresh(registration, refresh)
            if tokens.refresh is not None:
                self._held[row.session_id] = tokens.refresh
            token = await self._checked(row, registration, tokens.id_token)
            claims = await self._client.claims(registration, token, tokens.access, row.subject)
        except Refused as error:
            if error.code in OURS:
                raise Unreachable(f"it says {error.code}") from None
            raise _No(f"it says {error.code}") from None
        user = await self._identities.user_of(row.issuer, row.subject)
        if user is None:  # unlinked while the provider was asked
            raise _No("the identity is nobody's any more")
        await self._identities.set_groups(user, registration, rules.groups_of(registration, claims))
        await self._store(row, confirmed=True)
        if row.asked_at != row.confirmed_at:
            self._sessions.tell(told.confirmed_again(registration.name), row.session_id)

    async def _checked(self, row: Row, registration: Registration, token: str | None) -> IdToken | None:
        """The new ID token, if there is one (OpenID Connect Core section 12.2): of the same person, to us."""
        if token is None:
            return None
        expected = Expected(
            row.issuer, registration.client_id, registration.algorithms, nonce=None, subject=row.subject
        )
        match await self._client.verify(registration, token, expected):
            case IdToken() as good:
                return good
            case BadToken(reason, detail):
                raise _No(f"{reason} {detail}".strip())
            case _ as never:  # pragma: no cover
                assert_never(never)

    async def _trouble(self, row: Row, registration: Registration, code: str, detail: str) -> None:
        """No answer: the session lives on until `grace` is over (law 3)."""
        if row.asked_at == row.confirmed_at:  # the first time: an outage is told once a session
            self._note(ProviderTrouble(provider=registration.name, session=row.session_id, code=code, detail=detail))
        end = _deadline(row, registration)
        if self._clock() < end:
            await self._store(row, confirmed=False)
            # Each time: a client that was not there the last time is now, perhaps.
            self._sessions.tell(told.unconfirmed(registration.name, end), row.session_id)
            return
        await self._end_unconfirmed(row, registration)

    async def _end_unconfirmed(self, row: Row, registration: Registration) -> None:
        since = f"{row.confirmed_at:%Y-%m-%d %H:%M} UTC"
        sentence = f"the identity provider {registration.name} has not confirmed your login since {since}"
        try:
            await self._sessions.end(row.session_id, "provider_unreachable", sentence, f"oidc/{registration.name}")
        except StorageError as error:  # it is cut nevertheless, and written at the next look
            log.warning("a session of a provider waits for the database", reason=error.what)

    async def _registrations(self) -> Mapping[str, Registration]:
        """Every provider, by its issuer."""
        return {each.issuer: each for each in (await self._providers.registrations()).values()}

    async def _store(self, row: Row, *, confirmed: bool) -> None:
        now = self._clock()
        values: dict[str, object] = {"asked_at": now}
        if confirmed:
            values["confirmed_at"] = now
        held = self._held.get(row.session_id)
        if held is not None:
            values["sealed_refresh"] = self._storage.sealer.seal(held, refresh_context(row.session_id))
        async with self._storage.change() as change:
            await change.db.execute(update(Row).where(Row.session_id == row.session_id).values(**values))
        self._held.pop(row.session_id, None)


async def _again(look: Callable[[], Awaitable[None]]) -> None:
    """Looks every `PERIOD`, until it is cancelled."""
    while True:
        await asyncio.sleep(PERIOD)
        try:
            await look()
        except StorageError as error:
            log.warning("sessions of providers wait for the database", reason=error.what)


def _deadline(row: Row, registration: Registration) -> datetime:
    """When a session that nobody confirms is over."""
    return row.confirmed_at + registration.recheck + registration.grace


def _pause(row: Row, registration: Registration) -> timedelta:
    """How long after it was asked it is asked again: sooner where the last answer was none."""
    return registration.recheck if row.asked_at == row.confirmed_at else min(registration.recheck, RETRY)


def refresh_context(session: UUID) -> str:
    """What a session's refresh token is sealed for."""
    return f"session/{session}/refresh"
