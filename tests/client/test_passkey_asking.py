"""What the browser is asked, and that nobody is asked for somebody else."""

import json
from typing import Any
from uuid import UUID

import pytest

from client.passkey.asking import Here, addition_of, login_options, proof_of, read_posted, registration_options
from client.passkey.commands import checked_name
from console.errors import CommandError, ExitCode
from wire.errors import RemoteError
from wire.messages import AddPasskey, Credential, PasskeyAsk, PasskeyOffer, PasskeyProof
from wire.passkey import Purpose, challenge

BOUND: dict[str, Any] = {
    "domain": "example.test",
    "root_sha256": b"r" * 32,
    "device": UUID(int=1),
    "device_key_sha256": b"k" * 32,
}
MINE = challenge(bytes(32), Purpose.LOGIN, **BOUND)
CREDENTIALS = (Credential(id=b"c" * 16, transports=("usb", "nfc")),)


def test_a_challenge_for_this_machine_is_shown() -> None:
    Here(**BOUND).check(MINE, Purpose.LOGIN)


@pytest.mark.parametrize(
    "other",
    [
        {"domain": "another.test"},
        {"root_sha256": b"s" * 32},
        {"device": UUID(int=2)},
        {"device_key_sha256": b"l" * 32},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_challenge_that_another_perimeter_or_device_was_given_is_not_shown(other: dict[str, Any]) -> None:
    relayed = challenge(bytes(32), Purpose.LOGIN, **{**BOUND, **other})
    with pytest.raises(CommandError, match="not for this machine"):
        Here(**BOUND).check(relayed, Purpose.LOGIN)


def test_a_challenge_for_another_purpose_is_not_shown() -> None:
    with pytest.raises(CommandError, match="not for this machine"):
        Here(**BOUND).check(MINE, Purpose.REGISTRATION)


def test_the_relying_party_and_the_verification_are_ours_to_say() -> None:
    asked = login_options(PasskeyAsk(challenge=MINE, credentials=CREDENTIALS), milliseconds=300_000)
    assert asked["rpId"] == "localhost"
    assert asked["userVerification"] == "required"
    assert asked["allowCredentials"] == [
        {"type": "public-key", "id": "Y2NjY2NjY2NjY2NjY2NjYw", "transports": ["usb", "nfc"]}
    ]
    offer = PasskeyOffer(challenge=MINE, user_handle=bytes(32), user="alice", exclude=CREDENTIALS)
    made = registration_options(offer, domain="example.test", milliseconds=300_000)
    assert made["rp"] == {"id": "localhost", "name": "gloam example.test"}
    assert made["authenticatorSelection"]["userVerification"] == "required"
    assert made["authenticatorSelection"]["residentKey"] == "discouraged"
    assert made["attestation"] == "none"
    assert made["excludeCredentials"] == asked["allowCredentials"]
    json.dumps([asked, made])


SIGNED: dict[str, Any] = {
    "credential": "Y2NjY2NjY2NjY2NjY2NjYw",
    "client_data": "e30",
    "authenticator_data": "A" * 50,
    "signature": "AAAA",
    "user_handle": None,
}
MADE: dict[str, Any] = {
    "credential": "Y2NjY2NjY2NjY2NjY2NjYw",
    "client_data": "e30",
    "attestation": "A" * 50,
    "transports": ["usb"],
}


def test_what_the_browser_answered_is_read() -> None:
    assert isinstance(proof_of(SIGNED, 40_001), PasskeyProof)
    assert isinstance(addition_of(MADE, 40_001, "blue key"), AddPasskey)


@pytest.mark.parametrize(
    "changed",
    [
        {"credential": "AAAA"},
        {"credential": "A" * 1_400},
        {"client_data": "A" * 5_500},
        {"authenticator_data": "A" * 2_800},
        {"signature": "A" * 1_400},
        {"user_handle": "A" * 90},
        {"signature": "not base64!"},
        {"signature": 7},
        {"more": "A"},
    ],
    ids=str,
)
def test_what_is_too_much_or_of_another_form_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(RemoteError):
        proof_of({**SIGNED, **changed}, 40_001)


@pytest.mark.parametrize(
    "changed",
    [{"attestation": "A" * 11_000}, {"transports": ["usb"] * 9}, {"transports": ["USB"]}, {"name": "x"}, {"port": 1}],
    ids=str,
)
def test_a_new_passkey_of_another_form_is_refused(changed: dict[str, Any]) -> None:
    body = {**MADE, **changed}
    if set(changed) & {"name", "port"}:
        made = addition_of(body, 40_001, "blue key")
        assert (made.name, made.port) == ("blue key", 40_001), "the page names neither"
        return
    with pytest.raises(RemoteError):
        addition_of(body, 40_001, "blue key")


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines", "\x1b[2J", "\u2028"], ids=repr)
def test_a_name_is_one_short_line(name: str) -> None:
    with pytest.raises(RemoteError):
        addition_of(MADE, 40_001, name)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"secret": 1, "response": {}}',
        b'{"secret": "s", "response": []}',
        b'{"secret": "s", "response": {}, "more": 1}',
        b"[" * 10_000,
        b"\xff",
    ],
    ids=lambda each: str(each[:20]),
)
def test_what_the_page_does_not_send_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteError):
        read_posted(body)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("blue key", "blue key"), ("  blue key\t", "blue key"), ("x", "x"), ("\u9375" * 64, "\u9375" * 64)],
    ids=["plain", "spaces", "short", "long"],
)
def test_a_name_is_kept_without_the_space_around_it(typed: str, kept: str) -> None:
    assert checked_name(typed) == kept
    assert addition_of(MADE, 8080, kept).name == kept


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "the name of the passkey is blank"),
        (" \t\u3000", "the name of the passkey is blank"),
        ("x" * 65, "that is no name for a passkey"),
        ("two\nlines", "that is no name for a passkey"),
        ("\x1b[2J", "that is no name for a passkey"),
    ],
)
def test_a_name_nobody_would_take_is_refused_before_anything_is_asked(typed: str, says: str) -> None:
    """Neither by the command, which says so before the authenticator is touched, nor by any other client's request."""
    with pytest.raises(CommandError) as refused:
        checked_name(typed)
    assert (refused.value.what, refused.value.fix) == (says, "give one line of at most 64 characters")
    assert refused.value.code is ExitCode.USAGE


@pytest.mark.parametrize("name", ["", " ", "\u3000", " x", "x ", "x" * 65, "two\nlines"])
def test_the_protocol_has_no_such_name(name: str) -> None:
    with pytest.raises(RemoteError):
        addition_of(MADE, 8080, name)
