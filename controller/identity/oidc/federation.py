"""Logins at OpenID providers, from the first question to a proof that a login can use.

Laws:

1. The controller does everything that needs trust: the device carries a person's browser to the provider and brings
   back a code; the tokens are asked for, checked and kept here.
2. What comes back belongs to one conversation of one device (conversations.py); one answer at a time.
3. The provider's word counts for the owner of the device it came to, or for whoever may claim a device without owner.
4. Nothing here makes a session: a proof is used once, by `login.py`, and with a second factor where the provider's
   word is not enough.
5. Every no is audited with its true reason (told.py).
"""

import asyncio
import hmac
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from uuid import UUID

from controller.audit.events import Event, LoginRefused
from controller.identity.oidc import rules, told
from controller.identity.oidc.client import SLOW_DOWN, ProviderClient, Refused, Tokens
from controller.identity.oidc.conversations import (
    LIFETIME,
    CodeFlow,
    Conversation,
    Conversations,
    DeviceFlow,
    Proved,
    TooMany,
)
from controller.identity.oidc.http import Misbehaved, Unreachable
from controller.identity.oidc.identities import Identities, NotClaimed
from controller.identity.oidc.providers import Providers
from controller.identity.oidc.rules import Registration
from controller.identity.oidc.tokens import BadToken, Expected, IdToken
from wire.messages import OidcBegin, OidcBegun, OidcFinish, OidcFinished, Refusal

PATH: Final = "/gloam"
"""Of the redirect to the device's own machine (RFC 8252 section 7.3)."""
ALTOGETHER: Final = 12.0
"""Seconds for all questions of one step together: the device waits no longer than fifteen."""
Result = TypeVar("Result")
_WAITING: Final = frozenset({"authorization_pending", "slow_down"})


class _Stop(Exception):  # noqa: N818 - carries an answer
    def __init__(self, no: told.No) -> None:
        super().__init__(no.reason)
        self.no = no


class Federation:
    """Answers `POST /v1/oidc/begin` and `/finish`, and tells logins what was proved.

    `owner_of` names a device's owner from memory, for the audit log.
    """

    def __init__(
        self,
        *,
        providers: Providers,
        identities: Identities,
        client: ProviderClient,
        owner_of: Callable[[UUID], str | None],
        note: Callable[[Event], None],
        clock: Callable[[], datetime],
    ) -> None:
        self._providers = providers
        self._identities = identities
        self._client = client
        self._owner_of = owner_of
        self._note = note
        self._clock = clock
        self._conversations = Conversations()

    async def begin(self, asked: OidcBegin, *, device: UUID, source: str) -> OidcBegun | Refusal:
        """Where this device's person goes. Raises StorageUnavailable."""
        name = asked.provider or ""
        try:
            registrations = await self._providers.registrations()
            registration = _chosen(registrations, asked.provider)
            name = registration.name
            self._conversations.may_begin(device, self._clock())
            return await self._answered(registration, self._begun(registration, asked, device))
        except TooMany:
            no = told.TOO_MANY
        except _Stop as stop:
            no = stop.no
        self._audit(no, name, device, source)
        return Refusal(code=no.code, sentence=no.sentence, fix=no.fix)

    async def finish(self, asked: OidcFinish, *, device: UUID, source: str) -> OidcFinished:
        """What became of it. Raises StorageUnavailable."""
        conversation = self._conversations.find(asked.login, device, self._clock())
        if conversation is None or conversation.busy or conversation.proved is not None:
            return self._no(told.OVER, "", device, source)
        registration = conversation.registration
        if asked.stray:
            if not conversation.strayed:  # once: whoever sends many fills no audit log
                self._conversations.change(conversation, strayed=True)
                self._audit(told.refused("redirect_state", told.STRAY), registration.name, device, source)
            return self._pending(0)
        self._conversations.change(conversation, busy=True)
        try:
            match conversation.flow:
                case CodeFlow() as flow:
                    # One answer ends the waiting, good or bad: a code is used once, and so is a state.
                    work = self._by_code(conversation, flow, asked)
                case DeviceFlow() as flow:
                    work = self._by_device(conversation, flow)
            finished = await self._answered(registration, work)
        except _Stop as stop:
            self._conversations.end(conversation.id)
            return self._no(stop.no, registration.name, device, source)
        except BaseException:
            self._conversations.end(conversation.id)
            raise
        self._conversations.change(conversation, busy=False)
        return finished

    def proved(self, login: UUID, device: UUID) -> Proved | None:
        """What was proved in this conversation of this device, for as long as no session was made of it."""
        conversation = self._conversations.find(login, device, self._clock())
        return None if conversation is None else conversation.proved

    def use(self, login: UUID, device: UUID) -> Proved | None:
        """What was proved, once: from now on it is over."""
        proved = self.proved(login, device)
        if proved is not None:
            self._conversations.end(login)
        return proved

    # Inside

    async def _answered(self, registration: Registration, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` answers, within `ALTOGETHER`; what the provider did instead becomes a _Stop."""
        try:
            async with asyncio.timeout(ALTOGETHER):
                return await work
        except TimeoutError:
            raise _Stop(told.unreachable(registration.name, "too slow altogether")) from None
        except Unreachable as error:
            raise _Stop(told.unreachable(registration.name, str(error))) from None
        except Misbehaved as error:
            raise _Stop(told.misbehaved(registration.name, str(error))) from None
        except Refused as error:
            raise _Stop(told.said_no(registration.name, error.code)) from None

    async def _begun(self, registration: Registration, asked: OidcBegin, device: UUID) -> OidcBegun:
        now = self._clock()
        max_age = timedelta(0) if asked.fresh else registration.max_age
        wishes = {"max_age": str(int(max_age.total_seconds()))} | ({"prompt": "login"} if asked.fresh else {})
        if asked.port is None:
            given = await self._client.begin_device(registration, **wishes)
            flow: CodeFlow | DeviceFlow = DeviceFlow(given.code, given.interval, self._clock() + given.interval)
            lifetime = min(given.lifetime, LIFETIME)
            url, page, user_code = given.page_with_code or given.page, given.page, given.user_code
        else:
            flow = CodeFlow(redirect=f"http://127.0.0.1:{asked.port}{PATH}")
            # Asked now, so that an outage is told here and not by a browser that finds nobody.
            metadata = await self._client.metadata(registration.issuer, anew=True)
            lifetime = LIFETIME
            url, page, user_code = self._client.authorization_url(metadata, registration, flow, **wishes), None, None
        conversation = Conversation(device, registration, flow, max_age, now, now + lifetime)
        self._conversations.add(conversation, now)
        return OidcBegun(
            login=conversation.id,
            provider=registration.name,
            url=url,
            page=page,
            user_code=user_code,
            state=flow.state.reveal().decode() if isinstance(flow, CodeFlow) else None,
            interval_seconds=flow.interval.total_seconds() if isinstance(flow, DeviceFlow) else 0,
            expires_at=conversation.deadline,
            time=self._clock(),
        )

    async def _by_code(self, conversation: Conversation, flow: CodeFlow, asked: OidcFinish) -> OidcFinished:
        registration = conversation.registration
        if not hmac.compare_digest((asked.state or "").encode(), flow.state.reveal()):
            raise _Stop(told.refused("redirect_state"))
        metadata = await self._client.metadata(registration.issuer)
        if asked.issuer != registration.issuer and (asked.issuer is not None or metadata.says_issuer):
            raise _Stop(told.refused("redirect_issuer", asked.issuer or "none"))
        if asked.error is not None:
            raise _Stop(told.said_no(registration.name, asked.error))
        if asked.code is None:
            raise _Stop(told.refused("redirect_without_code"))
        tokens = await self._client.exchange(registration, asked.code, flow)
        return await self._take(conversation, tokens, flow.nonce.reveal().decode())

    async def _by_device(self, conversation: Conversation, flow: DeviceFlow) -> OidcFinished:
        now = self._clock()
        if now < flow.ask_at:
            return self._pending((flow.ask_at - now).total_seconds())
        try:
            tokens = await self._client.poll_device(conversation.registration, flow)
        except Refused as error:
            if error.code not in _WAITING:
                raise
            interval = flow.interval + (SLOW_DOWN if error.code == "slow_down" else timedelta(0))
        except Unreachable:
            interval = flow.interval * 2  # RFC 8628 section 3.5: after a timeout, less often; the deadline stands
        else:
            return await self._take(conversation, tokens, None)
        self._conversations.change(conversation, flow=replace(flow, interval=interval, ask_at=now + interval))
        return self._pending(interval.total_seconds())

    async def _take(self, conversation: Conversation, tokens: Tokens, nonce: str | None) -> OidcFinished:
        registration = conversation.registration
        token = await self._checked(conversation, tokens, nonce)
        claims = await self._client.claims(registration, token, tokens.access, token.subject)
        try:
            groups = rules.groups_of(registration, claims)
            user = await self._whose(conversation, token, lambda: rules.user_name(registration, claims))
        except rules.BadClaim as error:
            raise _Stop(told.refused("bad_claim", str(error))) from None
        await self._identities.set_groups(user, registration, groups)
        proved = Proved(
            user_id=user,
            issuer=token.issuer,
            subject=token.subject,
            second_factor_at=rules.second_factor_at(registration, token),
            refresh=tokens.refresh,
            begun=conversation.begun,
            at=self._clock(),
        )
        if self._conversations.change(conversation, proved=proved) is None:
            raise _Stop(told.OVER)
        return OidcFinished(status="proved", time=self._clock())

    async def _checked(self, conversation: Conversation, tokens: Tokens, nonce: str | None) -> IdToken:
        registration = conversation.registration
        if tokens.id_token is None:
            raise _Stop(told.refused("no_id_token"))
        expected = Expected(
            issuer=registration.issuer,
            audience=registration.client_id,
            algorithms=registration.algorithms,
            nonce=nonce,
            # The device flow has no way of its own to ask for `max_age`: there, a login of unknown age is none that
            # counts for two factors (rules.py).
            max_age=None if nonce is None else self._age(conversation),
        )
        answer = await self._client.verify(registration, tokens.id_token, expected)
        if isinstance(answer, BadToken):
            raise _Stop(told.refused(answer.reason, answer.detail))
        return answer

    def _age(self, conversation: Conversation) -> timedelta:
        """How long ago the person may have logged in there, by what was asked for when this began."""
        return conversation.max_age + (self._clock() - conversation.begun)

    async def _whose(self, conversation: Conversation, token: IdToken, name: Callable[[], str]) -> UUID:
        """The user this identity is, on this device (law 3)."""
        registration, device = conversation.registration, conversation.device
        standing = await self._identities.standing(token.issuer, token.subject, device)
        about = f"subject {token.subject}"
        if standing.revoked:
            raise _Stop(told.refused("device_revoked", about))
        if standing.disabled:
            raise _Stop(told.refused("user_disabled", about))
        if standing.owner is not None:
            if standing.user_id is None:
                raise _Stop(told.refused("identity_unknown", about))
            if standing.user_id != standing.owner:
                raise _Stop(told.refused("others_device", about))
            return standing.owner
        if standing.invited != token.issuer:
            raise _Stop(told.refused("others_device", about))
        if standing.user_id is None and not registration.creates_users:
            raise _Stop(told.refused("identity_unknown", about))
        try:
            claimer = name() if standing.user_id is None else standing.user_id
            return await self._identities.claim(device, token.issuer, token.subject, claimer)
        except NotClaimed as error:
            raise _Stop(told.refused(str(error), about)) from None

    def _pending(self, seconds: float) -> OidcFinished:
        return OidcFinished(status="pending", interval_seconds=max(seconds, 0.0), time=self._clock())

    def _no(self, no: told.No, provider: str, device: UUID, source: str) -> OidcFinished:
        self._audit(no, provider, device, source)
        return OidcFinished(status="refused", code=no.code, sentence=no.sentence, fix=no.fix, time=self._clock())

    def _audit(self, no: told.No, provider: str, device: UUID, source: str) -> None:
        detail = " ".join(part for part in (f"provider {provider};" if provider else "", no.detail) if part)
        event = LoginRefused(
            user=self._owner_of(device) or "", device=device, source=source, code=no.reason, detail=detail.rstrip(";")
        )
        self._note(event)


def _chosen(registrations: Mapping[str, Registration], name: str | None) -> Registration:
    if name is None and len(registrations) == 1:
        return next(iter(registrations.values()))
    found = None if name is None else registrations.get(name)
    if found is None:
        raise _Stop(told.no_provider(sorted(registrations), name))
    return found
