"""ID tokens, one table of what is wrong with them."""

import hmac
import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from controller.identity.oidc.keys import MOST_KEYS, SMALLEST_RSA, KeySet, parse_keys
from controller.identity.oidc.tokens import BadToken, Expected, IdToken, Reason, verify

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ISSUER, US, NONCE = "https://login.example.test", "gloam", "n" * 43
EVERY = frozenset({"RS256", "ES256", "PS256", "EdDSA"})
EXPECTED = Expected(ISSUER, US, EVERY, nonce=NONCE, max_age=timedelta(hours=12))
EC, RSA, OKP = ECKey.generate_key("P-256"), RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")
KEYS = {"RS256": RSA, "PS256": RSA, "ES256": EC, "EdDSA": OKP}


class Anything(jws.JWSRegistry):
    """joserfc would not sign what is tested here."""

    max_payload_length = 1_000_000

    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]

    def check_header(self, header: Any) -> None:
        pass


def at(**delta: float) -> int:
    return int((NOW + timedelta(**delta)).timestamp())


def claims(**changed: Any) -> dict[str, Any]:
    good = {"iss": ISSUER, "sub": "u-1", "aud": US, "exp": at(minutes=5), "iat": at(), "nonce": NONCE}
    return {name: value for name, value in {**good, "auth_time": at(), **changed}.items() if value is not None}


def sign(payload: dict[str, Any] | bytes, algorithm: str = "ES256", key: Key | None = None, **header: Any) -> str:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    whole = {"alg": algorithm, "kid": "k1", **header}
    whole = {name: value for name, value in whole.items() if value is not None}
    return jws.serialize_compact(whole, body, key or KEYS[algorithm], registry=Anything(strict_check_header=False))


def public(*keys: tuple[str, Key], **more: Any) -> dict[str, Any]:
    return {"keys": [{**key.as_dict(private=False), "kid": kid, **more} for kid, key in keys]}


PUBLISHED = parse_keys(public(("k1", EC), ("k1", RSA), ("k1", OKP), ("k0", RSAKey.generate_key(2048))))


@pytest.mark.parametrize("algorithm", sorted(EVERY))
def test_a_token_of_each_algorithm_counts(algorithm: str) -> None:
    token = verify(sign(claims(groups=["a"]), algorithm), PUBLISHED, EXPECTED, NOW)
    assert isinstance(token, IdToken)
    assert (token.issuer, token.subject, token.auth_time, token.claims["groups"]) == (ISSUER, "u-1", NOW, ["a"])


def unsigned(payload: dict[str, Any]) -> str:
    return ".".join([*(base64url(json.dumps(each).encode()) for each in ({"alg": "none"}, payload)), ""])


def with_the_public_key_as_a_secret(payload: dict[str, Any]) -> str:
    """What a library without an allow-list would take; made by hand, for joserfc would not."""
    head, body = (base64url(json.dumps(each).encode()) for each in ({"alg": "HS256", "kid": "k1"}, payload))
    signature = hmac.digest(EC.as_pem(private=False), f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64url(signature)}"


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def changed_signature() -> str:
    head, body, signature = sign(claims()).split(".")
    return f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


BAD: dict[str, tuple[str, Reason, str]] = {
    "expired": (sign(claims(exp=at(seconds=-61))), Reason.EXPIRED, "exp"),
    "issued in the future": (sign(claims(iat=at(seconds=61))), Reason.NOT_YET, "iat"),
    "not valid yet": (sign(claims(nbf=at(seconds=61))), Reason.NOT_YET, "nbf"),
    "issued long ago": (sign(claims(iat=at(minutes=-12))), Reason.TOO_OLD, "iat"),
    "for another audience": (sign(claims(aud="other")), Reason.AUDIENCE, "other"),
    "for nobody": (sign(claims(aud=[])), Reason.CLAIM_MALFORMED, "aud"),
    "several audiences without azp": (sign(claims(aud=[US, "other"])), Reason.CLAIM_MISSING, "azp"),
    "several audiences, azp another": (sign(claims(aud=[US, "other"], azp="other")), Reason.AUTHORIZED_PARTY, "other"),
    "azp another": (sign(claims(azp="other")), Reason.AUTHORIZED_PARTY, "other"),
    "alg none": (unsigned(claims()), Reason.ALGORITHM, "none"),
    "alg none, with a signature": (sign(claims()).replace(sign(claims()).split(".")[0], unsigned({}).split(".")[0]),
                                   Reason.ALGORITHM, "none"),
    "HS256 with the public key": (with_the_public_key_as_a_secret(claims()), Reason.ALGORITHM, "HS256"),
    "RS512": (sign(claims(), "RS512", RSA), Reason.ALGORITHM, "RS512"),
    "unknown kid": (sign(claims(), kid="k2"), Reason.KEY_UNKNOWN, "k2"),
    "no kid, several keys": (sign(claims(), "RS256", kid=None), Reason.KEY_UNKNOWN, ""),
    "another key of this kid": (sign(claims(), "ES256", ECKey.generate_key("P-256")), Reason.SIGNATURE, ""),
    "changed signature": (changed_signature(), Reason.SIGNATURE, ""),
    "wrong nonce": (sign(claims(nonce="x" * 43)), Reason.NONCE, ""),
    "wrong issuer": (sign(claims(iss=f"{ISSUER}/")), Reason.ISSUER, ISSUER),
    "login too long ago": (sign(claims(auth_time=at(hours=-13))), Reason.LOGIN_TOO_OLD, "auth_time"),
    "login in the future": (sign(claims(auth_time=at(minutes=2))), Reason.NOT_YET, "auth_time"),
    "exp as text": (sign(claims(exp=str(at(minutes=5)))), Reason.CLAIM_MALFORMED, "exp"),
    "exp true": (sign(claims(exp=True)), Reason.CLAIM_MALFORMED, "exp"),
    "exp beyond the calendar": (sign(claims(exp=10**18)), Reason.CLAIM_MALFORMED, "exp"),
    "sub a number": (sign(claims(sub=7)), Reason.CLAIM_MALFORMED, "sub"),
    "sub too long": (sign(claims(sub="x" * 256)), Reason.CLAIM_MALFORMED, "sub"),
    "sub with a line end": (sign(claims(sub="a\nb")), Reason.CLAIM_MALFORMED, "sub"),
    "a claim twice": (sign(b'{"iss":"a","iss":"b"}'), Reason.MALFORMED, ""),
    "not an object": (sign(b"[]"), Reason.MALFORMED, ""),
    "not JSON": (sign(b"hello"), Reason.MALFORMED, ""),
    "too long": (sign(claims(x="x" * 70_000)), Reason.MALFORMED, ""),
    "a critical header we do not know": (sign(claims(), crit=["exp2"], exp2=1), Reason.SIGNATURE, ""),
    "no token": ("hello", Reason.MALFORMED, ""),
    **{
        f"{name} is missing": (sign(claims(**{name: None})), Reason.CLAIM_MISSING, name)
        for name in ("iss", "sub", "aud", "exp", "iat", "nonce", "auth_time")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_for_its_own_reason(name: str) -> None:
    token, reason, detail = BAD[name]
    answer = verify(token, PUBLISHED, EXPECTED, NOW)
    assert isinstance(answer, BadToken), answer
    assert answer.reason is reason
    assert detail in answer.detail


def test_clocks_may_differ_by_a_minute() -> None:
    slow = claims(exp=at(seconds=-59), iat=at(seconds=-300))
    fast = claims(iat=at(seconds=59), nbf=at(seconds=59), auth_time=at(seconds=59))
    assert isinstance(verify(sign(slow), PUBLISHED, EXPECTED, NOW), IdToken)
    token = verify(sign(fast), PUBLISHED, EXPECTED, NOW)
    assert isinstance(token, IdToken)
    assert token.auth_time == NOW  # never in the future


def test_several_audiences_with_azp_are_for_us() -> None:
    token = sign(claims(aud=[US, "other"], azp=US))
    assert isinstance(verify(token, PUBLISHED, EXPECTED, NOW), IdToken)


def test_what_was_not_sent_is_not_required() -> None:
    plain = Expected(ISSUER, US, EVERY)
    token = verify(sign(claims(nonce=None, auth_time=None)), PUBLISHED, plain, NOW)
    assert isinstance(token, IdToken)
    assert token.auth_time is None
    assert isinstance(verify(sign(claims()), PUBLISHED, Expected(ISSUER, US, EVERY, subject="u-2"), NOW), BadToken)


def test_without_kid_one_key_of_the_kind_will_do() -> None:
    assert isinstance(verify(sign(claims(), kid=None), PUBLISHED, EXPECTED, NOW), IdToken)


def test_an_algorithm_that_is_not_allowed_here_is_none() -> None:
    only = Expected(ISSUER, US, frozenset({"RS256"}), nonce=NONCE)
    answer = verify(sign(claims()), PUBLISHED, only, NOW)
    assert answer == BadToken(Reason.ALGORITHM, "ES256")


def small_rsa() -> dict[str, str]:
    numbers = rsa.generate_private_key(65537, 1024).public_key().public_numbers()  # noqa: S505 - that is the case
    return {"kty": "RSA", "n": base64url(numbers.n.to_bytes(128, "big")), "e": "AQAB"}


UNFIT = {
    "for encryption": {**EC.as_dict(private=False), "use": "enc"},
    "to sign alone": {**EC.as_dict(private=False), "key_ops": ["sign"]},
    "symmetric": {"kty": "oct", "k": "c2VjcmV0"},
    "RSA of 1,024 bits": small_rsa(),
    "another curve": ECKey.generate_key("P-384").as_dict(private=False),
    "a curve that only encrypts": OKPKey.generate_key("X25519").as_dict(private=False),
    "of another algorithm": {**EC.as_dict(private=False), "alg": "ES384"},
    "broken": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
    "off the curve": {**EC.as_dict(private=False), "x": EC.as_dict(private=False)["y"]},
    "no kty": {"kid": "k1"},
    "kid a number": {**EC.as_dict(private=False), "kid": 1},
    "no key": "hello",
}


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
@pytest.mark.parametrize("name", UNFIT)
def test_a_key_that_does_not_count_is_passed_over(name: str) -> None:
    keys = parse_keys({"keys": [UNFIT[name], *public(("good", EC))["keys"]]})
    assert [key.kid for key in keys if key.fits("ES256")] == ["good"]
    assert not any(key.fits("HS256") for key in keys)


@pytest.mark.parametrize("document", [{}, {"keys": "x"}, {"keys": {}}, {"keys": [{}] * (MOST_KEYS + 1)}])
def test_what_is_no_set_of_keys(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="key"):
        parse_keys(document)


def test_a_private_key_that_was_published_verifies_and_is_not_kept() -> None:
    [key] = parse_keys({"keys": [{**EC.as_dict(private=True), "kid": "k1"}]})
    assert not key.key.is_private
    assert SMALLEST_RSA == 2048


def test_a_set_is_believed_for_an_hour_and_asked_again_once_a_minute() -> None:
    assert not KeySet((), NOW).patient(NOW)
    held = KeySet((), NOW, NOW)
    for seconds, fresh, patient in ((0, True, True), (59, True, True), (61, True, False), (3601, False, False)):
        for sign_ in (1, -1):
            then = NOW + timedelta(seconds=seconds * sign_)
            assert (held.fresh(then), held.patient(then)) == (fresh, patient)


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: urlsafe_b64encode(data).decode() + ".e30.AA"))
def test_nothing_else_is_a_token(text: str) -> None:
    assert isinstance(verify(text, PUBLISHED, EXPECTED, NOW), BadToken)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(claims())), VALUES, max_size=3))
def test_whatever_is_signed_is_answered(changed: dict[str, Any]) -> None:
    answer = verify(sign({**claims(), **changed}), PUBLISHED, EXPECTED, NOW)
    assert isinstance(answer, IdToken | BadToken)
    if isinstance(answer, IdToken):
        assert (answer.issuer, answer.subject) == (ISSUER, changed.get("sub", "u-1"))


def test_a_nonce_of_half_a_character_is_wrong() -> None:
    assert verify(sign(claims(nonce="\ud800" * 43)), PUBLISHED, EXPECTED, NOW) == BadToken(Reason.NONCE)


@pytest.mark.timeout(60)  # what grows with the square of the depth takes minutes
def test_a_token_of_many_braces_is_refused() -> None:
    assert isinstance(verify(sign(b"[" * 40_000), PUBLISHED, EXPECTED, NOW), BadToken)
