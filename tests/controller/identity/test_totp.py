from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import Secret
from controller.identity.totp import (
    Accepted,
    Reason,
    Refused,
    code_of,
    new_secret,
    provisioning_uri,
    step_of,
    verify,
)

SECRET = Secret(b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")  # the key of RFC 6238 appendix B, "12345678901234567890"
NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
STEP = step_of(NOW)


@pytest.mark.parametrize(
    ("seconds", "digits"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_vectors_of_rfc_6238(seconds: int, digits: str) -> None:
    assert code_of(SECRET, seconds // 30) == digits
    assert verify(SECRET, digits, now=datetime.fromtimestamp(seconds, UTC), last_step=None) == Accepted(seconds // 30)


@pytest.mark.parametrize(
    ("offset", "last", "answer"),
    [
        (0, None, Accepted(STEP)),
        (-1, None, Accepted(STEP - 1)),
        (1, None, Accepted(STEP + 1)),
        (-2, None, Refused(Reason.LATE)),
        (-10, None, Refused(Reason.LATE)),
        (-11, None, Refused(Reason.WRONG)),
        (2, None, Refused(Reason.EARLY)),
        (10, None, Refused(Reason.EARLY)),
        (11, None, Refused(Reason.WRONG)),
        (0, STEP - 1, Accepted(STEP)),
        (0, STEP, Refused(Reason.USED)),
        (0, STEP + 1, Refused(Reason.USED)),
        (-1, STEP - 1, Refused(Reason.USED)),
        (1, STEP, Accepted(STEP + 1)),
    ],
)
def test_one_step_either_side_and_none_twice(offset: int, last: int | None, answer: object) -> None:
    assert verify(SECRET, code_of(SECRET, STEP + offset), now=NOW, last_step=last) == answer


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "\uff11\uff12\uff13\uff14\uff15\uff16", "-" * 16])
def test_what_is_no_code(code: str) -> None:
    assert verify(SECRET, code, now=NOW, last_step=None) == Refused(Reason.MALFORMED)


def test_spaces_and_hyphens_are_how_people_read_codes() -> None:
    code = code_of(SECRET, STEP)
    for typed in (f"{code[:3]} {code[3:]}", f" {code[:3]}-{code[3:]}\n"):
        assert verify(SECRET, typed, now=NOW, last_step=None) == Accepted(STEP)


@given(st.text(max_size=16), st.integers(0, 10**9))
def test_any_text_gets_an_answer(code: str, seconds: int) -> None:
    assert isinstance(verify(SECRET, code, now=NOW + timedelta(seconds=seconds), last_step=None), Accepted | Refused)


def test_the_uri_names_user_and_domain() -> None:
    uri = provisioning_uri(SECRET, user="alice", domain="example.test")
    assert uri.startswith("otpauth://totp/")
    assert "alice" in uri
    assert "example.test" in uri
    assert SECRET.reveal().decode() in uri


def test_secrets_are_new() -> None:
    assert new_secret() != new_secret()
    assert len(new_secret()) == 32
