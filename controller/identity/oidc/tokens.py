"""ID tokens: from the provider's text to who somebody is, or to the reason why it says nothing (pure).

Laws (OpenID Connect Core 1.0 section 3.1.3.7, RFC 8725):

1. The algorithm is one of the provider's allow-list, which knows no `none` and nothing with a shared secret; the key is
   chosen by `kid` among public keys of exactly that algorithm's kind. The token's header decides nothing else.
2. `iss`, `sub`, `aud`, `exp` and `iat` are required; `nonce` where one was sent, `auth_time` where its age was limited.
3. `aud` names us. With more than one audience, and wherever `azp` is given, `azp` is us.
4. Nothing of a token is read before its signature was right, but `alg` and `kid`.
5. Clocks may differ by `TOLERANCE`; a token that was issued longer ago than `OLDEST` is not of this login.
"""

import binascii
import hmac
import json
import math
from base64 import urlsafe_b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError

from controller.identity.oidc.keys import SigningKey

TOLERANCE: Final = timedelta(seconds=60)
OLDEST: Final = timedelta(minutes=10)
LONGEST: Final = 65_536
"""Characters: a person in a thousand groups stays under it."""
LONGEST_SUBJECT: Final = 255  # OpenID Connect Core section 2
LAST_SECOND: Final = 253_402_300_799  # of the year 9999, where Python's calendar ends
MOST_CANDIDATES: Final = 4
"""Keys tried for one token: a provider has one of a `kid`, and careless ones two."""


class Reason(StrEnum):
    """Why a token says nothing, for the audit log."""

    MALFORMED = "token_malformed"
    ALGORITHM = "token_algorithm"
    KEY_UNKNOWN = "token_key_unknown"
    SIGNATURE = "token_signature"
    CLAIM_MISSING = "token_claim_missing"
    CLAIM_MALFORMED = "token_claim_malformed"
    ISSUER = "token_issuer"
    AUDIENCE = "token_audience"
    AUTHORIZED_PARTY = "token_authorized_party"
    EXPIRED = "token_expired"
    NOT_YET = "token_not_yet_valid"
    TOO_OLD = "token_too_old"
    NONCE = "token_nonce"
    LOGIN_TOO_OLD = "token_login_too_old"
    SUBJECT = "token_subject"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token has to say. `subject` where it is known already (at a refresh)."""

    issuer: str
    audience: str
    algorithms: frozenset[str]
    nonce: str | None = None
    max_age: timedelta | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class IdToken:
    """A token that counts. `claims` is everything in it."""

    issuer: str
    subject: str
    auth_time: datetime | None
    claims: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadToken:
    """A token that does not; `detail` names the claim or says what was found, for the audit log."""

    reason: Reason
    detail: str = ""


class _Bad(Exception):  # noqa: N818 - becomes a BadToken
    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.answer = BadToken(reason, detail[:200])


class _Registry(jws.JWSRegistry):
    """joserfc's bounds as they fit here: certificates may be in a header, a thousand groups in a payload."""

    max_header_length = 8_192
    max_payload_length = LONGEST

    def get_alg(self, name: str) -> Any:
        """The one algorithm that is allowed; the library warns of EdDSA, whose newer name few providers know."""
        if self.allowed is None or name not in self.allowed:
            raise UnsupportedAlgorithmError(name)
        return self.algorithms[name]


def verify(token: str, keys: Sequence[SigningKey], expected: Expected, now: datetime) -> IdToken | BadToken:
    """Who `token` says was logged in, or why it does not count (law 5's times by `now`)."""
    try:
        claims = _signed_claims(token, keys, expected.algorithms)
        return _checked(claims, expected, now)
    except _Bad as bad:
        return bad.answer


def _signed_claims(token: str, keys: Sequence[SigningKey], algorithms: frozenset[str]) -> dict[str, Any]:
    if len(token) > LONGEST or token.count(".") != 2 or not token.isascii():  # noqa: PLR2004 - three parts (RFC 7515 section 3.1)
        raise _Bad(Reason.MALFORMED, "not a signed token")
    header = _object(token.partition(".")[0])
    algorithm, kid = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise _Bad(Reason.ALGORITHM, str(algorithm))
    if kid is not None and not isinstance(kid, str):
        raise _Bad(Reason.MALFORMED, "kid")
    registry = _Registry(algorithms=[algorithm], strict_check_header=False)
    for key in _candidates(keys, algorithm, kid):
        try:
            signed = jws.deserialize_compact(token, key.key, registry=registry)
        except (JoseError, ValueError, TypeError):
            continue
        return _parsed(signed.payload)
    raise _Bad(Reason.SIGNATURE)


def _candidates(keys: Sequence[SigningKey], algorithm: str, kid: str | None) -> Sequence[SigningKey]:
    fitting = [key for key in keys if key.fits(algorithm) and (kid is None or key.kid == kid)]
    if not fitting or (kid is None and len(fitting) > 1):
        raise _Bad(Reason.KEY_UNKNOWN, f"kid {kid!a}")
    return fitting[:MOST_CANDIDATES]


def _object(part: str) -> dict[str, Any]:
    try:
        return _parsed(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error):
        raise _Bad(Reason.MALFORMED, "header") from None


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise _Bad(Reason.MALFORMED, "not JSON") from None
    if not isinstance(document, dict):
        raise _Bad(Reason.MALFORMED, "not an object")
    return document


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member twice")
    return found


def _checked(claims: Mapping[str, Any], expected: Expected, now: datetime) -> IdToken:
    issuer = _text(claims, "iss")
    if issuer != expected.issuer:
        raise _Bad(Reason.ISSUER, issuer)
    subject = _text(claims, "sub")
    if len(subject) > LONGEST_SUBJECT or not subject.isprintable():
        raise _Bad(Reason.CLAIM_MALFORMED, "sub")
    if expected.subject is not None and subject != expected.subject:
        raise _Bad(Reason.SUBJECT, subject)
    _check_audience(claims, expected.audience)
    _check_times(claims, now)
    if expected.nonce is not None:
        nonce = _text(claims, "nonce")
        if not nonce.isascii() or not hmac.compare_digest(nonce, expected.nonce):
            raise _Bad(Reason.NONCE)
    return IdToken(issuer, subject, _auth_time(claims, expected.max_age, now), claims)


def _check_audience(claims: Mapping[str, Any], us: str) -> None:
    audience = _required(claims, "aud")
    named = [audience] if isinstance(audience, str) else audience
    if not isinstance(named, list) or not named or not all(isinstance(each, str) for each in named):
        raise _Bad(Reason.CLAIM_MALFORMED, "aud")
    if us not in named:
        raise _Bad(Reason.AUDIENCE, ", ".join(named))
    if len(named) > 1 and "azp" not in claims:
        raise _Bad(Reason.CLAIM_MISSING, "azp, with several audiences")
    if "azp" in claims and claims["azp"] != us:
        raise _Bad(Reason.AUTHORIZED_PARTY, str(claims["azp"]))


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if now >= expires + TOLERANCE:
        raise _Bad(Reason.EXPIRED, f"exp {expires.isoformat()}")
    if issued > now + TOLERANCE:
        raise _Bad(Reason.NOT_YET, f"iat {issued.isoformat()}")
    if "nbf" in claims and _time(claims, "nbf") > now + TOLERANCE:
        raise _Bad(Reason.NOT_YET, f"nbf {_time(claims, 'nbf').isoformat()}")
    if issued < now - OLDEST - TOLERANCE:
        raise _Bad(Reason.TOO_OLD, f"iat {issued.isoformat()}")


def _auth_time(claims: Mapping[str, Any], max_age: timedelta | None, now: datetime) -> datetime | None:
    """When the person logged in at the provider; never later than now."""
    if "auth_time" not in claims and max_age is None:
        return None
    logged_in = _time(claims, "auth_time")
    if logged_in > now + TOLERANCE:
        raise _Bad(Reason.NOT_YET, f"auth_time {logged_in.isoformat()}")
    if max_age is not None and logged_in < now - max_age - TOLERANCE:
        raise _Bad(Reason.LOGIN_TOO_OLD, f"auth_time {logged_in.isoformat()}")
    return min(logged_in, now)


def _required(claims: Mapping[str, Any], name: str) -> Any:
    if claims.get(name) is None:
        raise _Bad(Reason.CLAIM_MISSING, name)
    return claims[name]


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = _required(claims, name)
    if not isinstance(value, str) or not value:
        raise _Bad(Reason.CLAIM_MALFORMED, name)
    return value


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    value = _required(claims, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _Bad(Reason.CLAIM_MALFORMED, name)
    if not 0 <= value <= LAST_SECOND:
        raise _Bad(Reason.CLAIM_MALFORMED, name)
    # A day before the end of the calendar: tolerances are added to it.
    return min(datetime.fromtimestamp(value, UTC), datetime.max.replace(tzinfo=UTC) - timedelta(days=1))
