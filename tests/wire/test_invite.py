import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import BadName
from certs.secret import Secret
from wire.errors import LocalError
from wire.invite import (
    MAX_TEXT,
    PREFIX,
    BadInvite,
    Invite,
    InvitePurpose,
    encode_invite,
    enrol_proof,
    invite_knock_secret,
    parse_invite,
)
from wire.messages import Address, ControllerAddress

MAIN = ControllerAddress(
    name="main", tls=Address(host="192.0.2.1", port=443), knock=Address(host="192.0.2.1", port=62201)
)
INVITE = Invite(
    id=UUID("3f0e7d2c-0000-4000-8000-000000000001"),
    purpose=InvitePurpose.DEVICE,
    subject="ada@example.test",
    domain="example.test",
    controllers=(MAIN,),
    root_spki_sha256=bytes(range(32)),
    expires=datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
    secret=Secret(b"s" * 32),
)


def values(**changes: object) -> dict[str, object]:
    names = ("id", "purpose", "subject", "domain", "controllers", "root_spki_sha256", "expires", "secret")
    return {name: getattr(INVITE, name) for name in names} | changes


def resealed(change: bytes | None = None, *, start: int = 0, cut: int | None = None, extra: bytes = b"") -> str:
    """The text of INVITE with some bytes changed and the sum made right again."""
    body = bytearray(base64.urlsafe_b64decode(encode_invite(INVITE).removeprefix(PREFIX) + "===")[:-4])
    if change is not None:
        body[start : start + len(change)] = change
    data = bytes(body[:cut]) + extra
    data += hashlib.sha256(PREFIX.encode() + data).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


labels = st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
addresses = st.builds(
    Address, host=st.sampled_from(["::1", "10.0.0.1", "c.example.test", "x" * 253]), port=st.integers(1, 65535)
)


invites = st.builds(
    Invite,
    id=st.uuids(),
    purpose=st.sampled_from(InvitePurpose),
    subject=labels,
    domain=st.lists(labels, min_size=1, max_size=3).map(".".join),
    controllers=st.lists(
        st.builds(ControllerAddress, name=labels, tls=addresses, knock=addresses), min_size=1, max_size=16
    ).map(tuple),
    root_spki_sha256=st.binary(min_size=32, max_size=32),
    secret=st.binary(min_size=32, max_size=32).map(Secret),
    expires=st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)


@given(invites)
def test_what_is_encoded_is_parsed(invite: Invite) -> None:
    text = encode_invite(invite)
    assert parse_invite(text) == invite
    assert len(text) <= MAX_TEXT
    assert invite.expires.microsecond == 0


def test_the_usual_invite_fits_a_small_qr_code() -> None:
    assert len(encode_invite(INVITE)) < 260


def test_wrapped_lines_and_spaces_do_no_harm() -> None:
    text = encode_invite(INVITE)
    assert parse_invite(f"  {text[:40]}\n   {text[40:90]}\r\n{text[90:]}\n") == INVITE


@given(st.text(max_size=300))
def test_any_text_is_an_invite_or_a_clear_refusal(text: str) -> None:
    for candidate in (text, PREFIX + text):
        with pytest.raises(BadInvite) as caught:
            parse_invite(candidate)
        assert caught.value.fix


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("   \n", "empty"),
        ("hello", "not an invite"),
        ("gloam-invite-v2.AAAA", "version"),
        (PREFIX, "damaged or cut short"),
        (PREFIX + "AAAA", "damaged or cut short"),
        (PREFIX + "!!!!", "damaged or cut short"),
        (PREFIX + "é", "damaged or cut short"),
        ("x" * (MAX_TEXT + 1), "at most"),
        (encode_invite(INVITE)[:-6], "damaged or cut short"),
        (encode_invite(INVITE)[:60] + "A" + encode_invite(INVITE)[61:], "damaged"),
        (encode_invite(INVITE) + "=", "damaged"),
        (resealed(b"\x07"), "no controller writes"),
        (resealed(b"\xff" * 8, start=17), "no controller writes"),
        (resealed(b"\xff", start=89), "no controller writes"),
        (resealed(b"A", start=90), "no controller writes"),
        (resealed(b"\xff", start=90), "no controller writes"),
        (resealed(b"-", start=103), "no controller writes"),
        (resealed(cut=-1), "no controller writes"),
        (resealed(b"\x02"), "no controller writes"),  # a user's name with an @ is no gateway's
        (resealed(extra=b"\x00"), "no controller writes"),
        (resealed(cut=0), "damaged or cut short"),
    ],
)
def test_what_is_wrong_is_said(text: str, sentence: str) -> None:
    with pytest.raises(BadInvite, match=sentence):
        parse_invite(text)


def test_low_bits_that_decode_away_are_refused() -> None:
    text = encode_invite(INVITE)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    siblings = [text[:-1] + letter for letter in alphabet if letter != text[-1]]
    for sibling in siblings:
        with pytest.raises(BadInvite):
            parse_invite(sibling)


@pytest.mark.parametrize(
    "change",
    [
        {"domain": "Example.test"},
        {"purpose": InvitePurpose.GATEWAY, "subject": "ada@example.test"},
        {"subject": ""},
        {"subject": "-"},
        {"controllers": ()},
        {"controllers": (MAIN,) * 17},
        {"root_spki_sha256": b"short"},
        {"secret": Secret(b"short")},
        {"expires": datetime(2031, 1, 1)},  # noqa: DTZ001
    ],
)
def test_no_invite_can_be_made_of_wrong_values(change: dict[str, object]) -> None:
    with pytest.raises((LocalError, BadName)):
        Invite(**values(**change))


def test_expiry_is_kept_in_utc() -> None:
    elsewhere = datetime(2031, 5, 6, 9, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    assert Invite(**values(expires=elsewhere)) == INVITE


def test_the_secret_does_not_show() -> None:
    assert "s" * 32 not in repr(INVITE)
    assert "secret" not in repr(INVITE)


def hkdf(secret: bytes, info: bytes) -> bytes:
    """RFC 5869 written out, one block: extract with a salt of zeros, expand once."""
    return hmac.digest(hmac.digest(bytes(32), secret, "sha256"), info + b"\x01", "sha256")


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_derivations_are_those_the_protocol_names(secret: bytes, binding: bytes, csr: bytes) -> None:
    assert invite_knock_secret(Secret(secret)).reveal() == hkdf(secret, b"gloam invite knock v1")
    expected = hmac.digest(hkdf(secret, b"gloam enrol proof v1"), binding + csr, "sha256")
    assert enrol_proof(Secret(secret), binding, csr) == expected


def test_bindings_and_secrets_of_another_length_are_refused() -> None:
    with pytest.raises(LocalError):
        enrol_proof(INVITE.secret, b"short", b"csr")
    with pytest.raises(LocalError):
        invite_knock_secret(Secret(b"short"))
