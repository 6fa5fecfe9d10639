"""The client of a provider: every question of the protocol, each with an answer that was checked.

Laws:

1. What a provider says about itself and its keys is asked for again after `keys.FRESH`; one question at a time.
2. A token with an unknown `kid` is worth asking for the keys once more, as often as keys.py allows.
3. What the provider refuses is told apart (`Refused`, with OAuth's code) from what it cannot answer now
   (`Unreachable`) and from what no provider should answer (`Misbehaved`).
4. The client's secret is sent to the token and device endpoints alone.
"""

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote_plus, urlencode, urlsplit

from certs.secret import Secret
from controller.identity.oidc import discovery, keys, tokens
from controller.identity.oidc.conversations import CodeFlow, DeviceFlow
from controller.identity.oidc.http import Answer, Misbehaved, ProviderHttp
from controller.identity.oidc.rules import Registration
from controller.identity.oidc.tokens import BadToken, Expected, IdToken

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
LEAST_INTERVAL: Final = timedelta(seconds=1)
LONGEST_INTERVAL: Final = timedelta(minutes=1)
SLOW_DOWN: Final = timedelta(seconds=5)  # RFC 8628 section 3.5
LONGEST_TOKEN: Final = 65_536
MOST_KNOWN: Final = 64


class Refused(Exception):  # noqa: N818 - an answer
    """The provider said no; `code` is OAuth's (RFC 6749 section 5.2, RFC 8628 section 3.5)."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a token endpoint gave."""

    id_token: str | None = field(repr=False)
    access: str = field(repr=False)
    refresh: Secret | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeviceAuthorization:
    """What a person is shown at the device flow, and what is asked with meanwhile."""

    code: Secret = field(repr=False)
    user_code: str
    page: str
    page_with_code: str | None
    lifetime: timedelta
    interval: timedelta


@dataclass(slots=True)
class _Known:
    """What was learnt of one issuer."""

    metadata: discovery.Metadata | None = None
    metadata_at: datetime | None = None
    key_set: keys.KeySet | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class ProviderClient:
    """Asks any provider. `clock` is the wall clock."""

    def __init__(self, http: ProviderHttp, clock: Callable[[], datetime]) -> None:
        self._http = http
        self._clock = clock
        self._known: dict[str, _Known] = {}

    def forget(self, issuer: str) -> None:
        """What is known of it, so that the next question begins anew."""
        self._known.pop(issuer, None)

    async def metadata(self, issuer: str, *, anew: bool = False) -> discovery.Metadata:
        """What the issuer says about itself; `anew`: whatever is known. Raises Unreachable, Misbehaved."""
        known = self._of(issuer)
        async with known.turn:
            if anew:
                known.metadata = None
            return await self._metadata(known, issuer)

    async def _metadata(self, known: _Known, issuer: str) -> discovery.Metadata:
        now = self._clock()
        if known.metadata is not None and known.metadata_at is not None and abs(now - known.metadata_at) < keys.FRESH:
            return known.metadata
        answer = await self._http.get(discovery.document_url(issuer))
        if not answer.good:
            raise Misbehaved(f"HTTP {answer.status} where it should describe itself")
        try:
            known.metadata = discovery.parse_metadata(answer.document, issuer)
        except discovery.BadMetadata as error:
            raise Misbehaved(f"its description: {error}") from None
        known.metadata_at = now
        return known.metadata

    def authorization_url(self, metadata: discovery.Metadata, asked: Registration, flow: CodeFlow, **more: str) -> str:
        """Where the person's browser is sent (OpenID Connect Core section 3.1.2.1, RFC 7636)."""
        query = {
            "response_type": "code",
            "client_id": asked.client_id,
            "redirect_uri": flow.redirect,
            "scope": " ".join(asked.scopes),
            "state": flow.state.reveal().decode(),
            "nonce": flow.nonce.reveal().decode(),
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
            **_wishes(asked),
            **more,
        }
        joint = "&" if urlsplit(metadata.authorization).query else "?"
        return f"{metadata.authorization}{joint}{urlencode(query)}"

    async def exchange(self, asked: Registration, code: str, flow: CodeFlow) -> Tokens:
        """The tokens for a code. Raises Refused, Unreachable, Misbehaved."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": flow.redirect,
            "code_verifier": flow.verifier.reveal().decode(),
        }
        return _tokens(await self._token(asked, form))

    async def begin_device(self, asked: Registration, **more: str) -> DeviceAuthorization:
        """A code for the person to type at the provider. Raises Refused, Unreachable, Misbehaved."""
        metadata = await self.metadata(asked.issuer, anew=True)
        if metadata.device is None:
            raise Refused("unsupported_grant_type")
        form = {"scope": " ".join(asked.scopes), **_wishes(asked), **more}
        return _device_authorization(await self._post(metadata, metadata.device, asked, form))

    async def poll_device(self, asked: Registration, flow: DeviceFlow) -> Tokens:
        """The tokens once the person has agreed. Raises Refused (`authorization_pending`, `slow_down`, …)."""
        form = {"grant_type": DEVICE_GRANT, "device_code": flow.code.reveal().decode()}
        return _tokens(await self._token(asked, form))

    async def refresh(self, asked: Registration, token: Secret) -> Tokens:
        """Tokens anew. Raises Refused, Unreachable, Misbehaved."""
        form = {"grant_type": "refresh_token", "refresh_token": token.reveal().decode()}
        return _tokens(await self._token(asked, form))

    async def verify(self, asked: Registration, token: str, expected: Expected) -> IdToken | BadToken:
        """Who the token says it is, by the provider's keys of now (law 2). Raises Unreachable, Misbehaved."""
        known = self._of(asked.issuer)
        async with known.turn:
            held = known.key_set
            if held is None or not held.fresh(self._clock()):
                held = known.key_set = await self._keys(known, asked.issuer)
            answer = tokens.verify(token, held.keys, expected, self._clock())
            unknown = isinstance(answer, BadToken) and answer.reason is tokens.Reason.KEY_UNKNOWN
            if unknown and not held.patient(self._clock()):
                held = known.key_set = replace(held, sought_at=self._clock())  # even if they do not answer
                held = known.key_set = replace(await self._keys(known, asked.issuer), sought_at=held.sought_at)
                answer = tokens.verify(token, held.keys, expected, self._clock())
            return answer

    async def claims(self, asked: Registration, token: IdToken | None, access: str, subject: str) -> Mapping[str, Any]:
        """The token's claims; where the one with groups is not among them, those of the userinfo endpoint as well."""
        said = {} if token is None else dict(token.claims)
        metadata = await self.metadata(asked.issuer)
        wanted = {asked.groups_claim, asked.name_claim if asked.creates_users else None} - {None}
        if wanted <= said.keys() or metadata.userinfo is None:
            return said
        answer = await self._http.get(metadata.userinfo, bearer=access)
        if not answer.good:
            raise Refused(f"userinfo_{answer.status}")
        if answer.document.get("sub") != subject:  # OpenID Connect Core section 5.3.2: it may be somebody else's
            raise Misbehaved("its userinfo is somebody else's")
        return {**answer.document, **said}

    # Inside

    def _of(self, issuer: str) -> _Known:
        if issuer not in self._known and len(self._known) >= MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        return self._known.setdefault(issuer, _Known())

    async def _keys(self, known: _Known, issuer: str) -> keys.KeySet:
        asked_at = self._clock()
        answer = await self._http.get((await self._metadata(known, issuer)).keys)
        if not answer.good:
            raise Misbehaved(f"its keys: HTTP {answer.status}")
        try:
            return keys.KeySet(keys.parse_keys(answer.document), asked_at)
        except ValueError as error:
            raise Misbehaved(f"its keys: {error}") from None

    async def _token(self, asked: Registration, form: Mapping[str, str]) -> Mapping[str, Any]:
        metadata = await self.metadata(asked.issuer)
        return await self._post(metadata, metadata.token, asked, form)

    async def _post(
        self, metadata: discovery.Metadata, url: str, asked: Registration, form: Mapping[str, str]
    ) -> Mapping[str, Any]:
        headers: dict[str, str] = {}
        if asked.secret is None or metadata.secret_in_body:
            form = {**form, "client_id": asked.client_id}
        if asked.secret is not None:
            secret = asked.secret.reveal().decode()
            if metadata.secret_in_body:
                form = {**form, "client_secret": secret}
            else:  # RFC 6749 section 2.3.1: each is form-encoded first
                pair = f"{quote_plus(asked.client_id)}:{quote_plus(secret)}"
                headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return _granted(await self._http.post(url, form, headers))


def _wishes(asked: Registration) -> dict[str, str]:
    """Which strength of login is asked for; the answer is checked, whatever was asked."""
    return {"acr_values": " ".join(asked.mfa_acr)} if asked.mfa_acr else {}


def _granted(answer: Answer) -> Mapping[str, Any]:
    if answer.good:
        return answer.document
    code = answer.document.get("error")
    if not isinstance(code, str):
        raise Misbehaved(f"HTTP {answer.status} without a reason")
    raise Refused("".join(char if char.isalnum() or char in "_-." else "?" for char in code[:64]))


def _tokens(document: Mapping[str, Any]) -> Tokens:
    access, kind = _string(document, "access_token"), document.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise Misbehaved("its tokens are of another kind than Bearer")
    refresh = _string(document, "refresh_token") if document.get("refresh_token") is not None else None
    identity = _string(document, "id_token") if document.get("id_token") is not None else None
    return Tokens(identity, access, None if refresh is None else Secret(refresh.encode()))


def _device_authorization(document: Mapping[str, Any]) -> DeviceAuthorization:
    try:
        page = discovery.check_url(document.get("verification_uri"), "verification_uri")
        whole = document.get("verification_uri_complete")
        whole = None if whole is None else discovery.check_url(whole, "verification_uri_complete")
    except discovery.BadMetadata as error:
        raise Misbehaved(str(error)) from None
    user_code = _string(document, "user_code")
    if len(user_code) > 64 or not user_code.isprintable():  # noqa: PLR2004 - what a person can type
        raise Misbehaved("its user_code is nothing to type")
    interval = _seconds(document.get("interval", 5))
    return DeviceAuthorization(
        code=Secret(_string(document, "device_code").encode()),
        user_code=user_code,
        page=page,
        page_with_code=whole,
        lifetime=_seconds(document.get("expires_in")),
        interval=min(max(interval, LEAST_INTERVAL), LONGEST_INTERVAL),
    )


def _string(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value or len(value) > LONGEST_TOKEN or not value.isascii():
        raise Misbehaved(f"an answer without {name}")
    return value


def _seconds(value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86_400:  # noqa: PLR2004 - a day
        raise Misbehaved("a time that is none")
    return timedelta(seconds=value)
