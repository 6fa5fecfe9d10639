"""What authenticators sign: what counts, and the one reason for which each other response does not."""

import secrets
from collections.abc import Callable
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from controller.identity.webauthn import (
    Made,
    Reason,
    Refused,
    Signed,
    Stored,
    challenge_of,
    verify_assertion,
    verify_registration,
)
from tests.controller.identity.authenticator import BE, BS, UP, UV, Authenticator, Key, client_data
from wire.messages import AddPasskey, PasskeyProof

CHALLENGE = secrets.token_bytes(64)
HANDLE = secrets.token_bytes(32)
PORT = 40_001


def stored(authenticator: Authenticator, **changed: Any) -> Stored:
    known = {"public_key": authenticator.public_key(), "sign_count": authenticator.count, "synced": False}
    return Stored(**{**known, **changed})


def judged(authenticator: Authenticator, known: Stored, **wrong: Any) -> Signed | Refused:
    answered = wrong.pop("challenge", CHALLENGE)
    changed = wrong.pop("fields", {})
    proof = PasskeyProof(**{**authenticator.response(answered, PORT, **wrong), **changed})
    return verify_assertion(proof, known, challenge=CHALLENGE, handle=HANDLE)


def registered(authenticator: Authenticator, **wrong: Any) -> Made | Refused:
    answered = wrong.pop("challenge", CHALLENGE)
    changed = wrong.pop("fields", {})
    asked = AddPasskey(**{**authenticator.registration(answered, PORT, **wrong), **changed})
    return verify_registration(asked, challenge=CHALLENGE)


KEYS: list[Callable[[], Key]] = [
    lambda: ec.generate_private_key(ec.SECP256R1()),
    ed25519.Ed25519PrivateKey.generate,
    lambda: rsa.generate_private_key(65_537, 2048),
]


@pytest.mark.parametrize("make", KEYS, ids=["ES256", "EdDSA", "RS256"])
def test_a_passkey_that_was_made_signs(make: Callable[[], Key]) -> None:
    authenticator = Authenticator(make())
    made = registered(authenticator)
    assert made == Made(
        authenticator.credential, authenticator.public_key(), 1, "00000000-0000-0000-0000-000000000000", synced=False
    )
    known = Stored(made.public_key, made.sign_count, made.synced)
    assert judged(authenticator, known) == Signed(2)
    assert judged(authenticator, known, fields={"user_handle": HANDLE}) == Signed(3)


def test_a_synced_passkey_has_no_counter() -> None:
    authenticator = Authenticator(step=0, flags=UP | UV | BE | BS)
    made = registered(authenticator)
    assert isinstance(made, Made)
    assert made.synced
    known = Stored(made.public_key, made.sign_count, made.synced)
    assert [judged(authenticator, known), judged(authenticator, known)] == [Signed(0), Signed(0)]


OTHER = Authenticator()
BAD_ASSERTIONS: dict[str, tuple[dict[str, Any], Reason]] = {
    "another challenge": ({"challenge": secrets.token_bytes(64)}, Reason.CHALLENGE),
    "the challenge of another perimeter": ({"challenge": CHALLENGE[:32] + bytes(32)}, Reason.CHALLENGE),
    "another port": ({"origin": f"http://localhost:{PORT + 1}"}, Reason.ORIGIN),
    "another host": ({"origin": f"http://127.0.0.1:{PORT}"}, Reason.ORIGIN),
    "another scheme": ({"origin": f"https://localhost:{PORT}"}, Reason.ORIGIN),
    "a host that only begins so": ({"origin": f"http://localhost:{PORT}.example.test"}, Reason.ORIGIN),
    "a page in a frame": ({"said": {"crossOrigin": True}}, Reason.FRAMED),
    "a frame of another page": ({"said": {"topOrigin": "https://example.test"}}, Reason.FRAMED),
    "truth that is a number": ({"said": {"crossOrigin": 0}}, Reason.FRAMED),
    "a registration": ({"kind": "webauthn.create"}, Reason.TYPE),
    "another relying party": ({"rp_id": "example.test"}, Reason.RP_ID),
    "nobody present": ({"flags": UV}, Reason.NOT_PRESENT),
    "nobody verified": ({"flags": UP}, Reason.NOT_VERIFIED),
    "somebody else's handle": ({"fields": {"user_handle": bytes(32)}}, Reason.HANDLE),
    "a signature of nothing": ({"fields": {"signature": OTHER.sign(b"")}}, Reason.SIGNATURE),
    "a signature that is none": ({"fields": {"signature": b"\x30\x00"}}, Reason.SIGNATURE),
    "client data that is no JSON": ({"fields": {"client_data": b"{"}}, Reason.MALFORMED),
    "client data without end": ({"fields": {"client_data": b"[" * 4_096}}, Reason.MALFORMED),
    "client data that is a list": ({"fields": {"client_data": b"[]"}}, Reason.MALFORMED),
    "bytes behind the counter": ({"rest": b"\x00"}, Reason.MALFORMED),
    "extensions that are none": ({"flags": UP | UV | 0x80, "rest": b"\xff"}, Reason.MALFORMED),
    "a passkey that may be synced now": ({"flags": UP | UV | BE}, Reason.SYNCED),
    "synced without being allowed to": ({"flags": UP | UV | BS}, Reason.MALFORMED),
}


@pytest.mark.parametrize(("wrong", "reason"), BAD_ASSERTIONS.values(), ids=BAD_ASSERTIONS)
def test_a_bad_assertion_has_one_reason(wrong: dict[str, Any], reason: Reason) -> None:
    authenticator = Authenticator()
    answer = judged(authenticator, stored(authenticator), **wrong)
    assert isinstance(answer, Refused)
    assert answer.reason is reason


def test_another_authenticators_signature_is_wrong() -> None:
    answer = judged(Authenticator(), stored(OTHER))
    assert answer == Refused(Reason.SIGNATURE)


@pytest.mark.parametrize(("before", "now"), [(5, 5), (5, 4), (5, 0), (2**32 - 1, 1)])
def test_a_counter_that_does_not_grow_is_a_clone(before: int, now: int) -> None:
    authenticator = Authenticator(count=now, step=0)
    answer = judged(authenticator, stored(authenticator, sign_count=before))
    assert answer == Refused(Reason.COUNTER, f"{now} after {before}")


def test_a_low_counter_without_the_key_marks_nothing() -> None:
    answer = judged(Authenticator(count=1, step=0), stored(OTHER, sign_count=5))
    assert answer == Refused(Reason.SIGNATURE)


BAD_REGISTRATIONS: dict[str, tuple[dict[str, Any], Reason]] = {
    "another challenge": ({"challenge": secrets.token_bytes(64)}, Reason.CHALLENGE),
    "another origin": ({"origin": "https://example.test"}, Reason.ORIGIN),
    "an assertion": ({"kind": "webauthn.get"}, Reason.TYPE),
    "a page in a frame": ({"said": {"crossOrigin": True}}, Reason.FRAMED),
    "another relying party": ({"rp_id": "example.test"}, Reason.RP_ID),
    "nobody present": ({"flags": UV}, Reason.NOT_PRESENT),
    "nobody verified": ({"flags": UP}, Reason.NOT_VERIFIED),
    "another identifier": ({"fields": {"credential": bytes(32)}}, Reason.MALFORMED),
    "no CBOR": ({"fields": {"attestation": b"\xff" * 40}}, Reason.MALFORMED),
    "CBOR without end": ({"fields": {"attestation": b"\x81" * 8_192}}, Reason.MALFORMED),
    "an attestation by its maker": ({"fmt": "packed", "statement": {"x5c": [b""]}}, Reason.ATTESTATION),
    "an attestation of a machine": ({"fmt": "tpm"}, Reason.ATTESTATION),
    "none with something in it": ({"statement": {"sig": b"1"}}, Reason.MALFORMED),
    "packed without a signature": ({"fmt": "packed"}, Reason.MALFORMED),
    "an algorithm nobody asked for": (
        {"public_key": cbor2.dumps({1: 2, 3: -35, -1: 2, -2: b"1", -3: b"1"})},
        Reason.KEY,
    ),
    "a kind of key there is not": ({"public_key": cbor2.dumps({1: 9, 3: -7})}, Reason.KEY),
    "a point on no curve": (
        {"public_key": cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(31) + b"1", -3: bytes(31) + b"1"})},
        Reason.MALFORMED,
    ),
    "a key that is a number": ({"public_key": cbor2.dumps(7)}, Reason.MALFORMED),
    "a key without its half": ({"public_key": cbor2.dumps({1: 2, 3: -7, -1: 1, -2: bytes(32)})}, Reason.MALFORMED),
    **{
        f"a point of small order, {name}": (
            {"public_key": cbor2.dumps({1: 1, 3: -8, -1: 6, -2: point})},
            Reason.KEY,
        )
        for name, point in {
            "1": b"\x01" + bytes(31),
            "2": b"\xec" + b"\xff" * 30 + b"\x7f",
            "4": bytes(32),
            "4, the other": bytes(31) + b"\x80",
            "8": bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
            "8, the other": bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        }.items()
    },
    "another curve": ({"public_key": cbor2.dumps({1: 2, 3: -7, -1: 9, -2: b"1", -3: b"1"})}, Reason.KEY),
}


@pytest.mark.parametrize(("wrong", "reason"), BAD_REGISTRATIONS.values(), ids=BAD_REGISTRATIONS)
def test_a_bad_registration_has_one_reason(wrong: dict[str, Any], reason: Reason) -> None:
    answer = registered(Authenticator(), **wrong)
    assert isinstance(answer, Refused)
    assert answer.reason is reason, answer


def test_an_rsa_key_that_is_too_short_is_refused() -> None:
    answer = registered(Authenticator(rsa.generate_private_key(65_537, 1024)))  # noqa: S505
    assert answer == Refused(Reason.KEY, "RSA of 1024 bits")


@given(st.binary(min_size=1, max_size=200))
def test_a_challenge_is_read_from_what_is_there(data: bytes) -> None:
    assert challenge_of(client_data("webauthn.get", data, "http://localhost:1")) == data
    assert challenge_of(data) is None


@given(st.binary(min_size=37, max_size=300), st.binary(min_size=1, max_size=300), st.binary(min_size=1, max_size=80))
def test_noise_is_refused(data: bytes, told: bytes, signature: bytes) -> None:
    noise = {"authenticator_data": data, "signature": signature}
    assert isinstance(judged(OTHER, stored(OTHER), fields=noise), Refused)
    assert isinstance(judged(OTHER, stored(OTHER), fields={**noise, "client_data": told}), Refused)
    assert isinstance(registered(OTHER, fields={"attestation": data}), Refused)
