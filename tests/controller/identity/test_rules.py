from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs import Secret
from controller.identity import totp
from controller.identity.rules import (
    Account,
    Authenticator,
    Reason,
    Right,
    judge_code,
    may_enrol,
    of_session,
    suffices,
    why_nobody,
)

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
STEP = totp.step_of(NOW)
SECRET = Secret(b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
CODE = totp.code_of(SECRET, STEP)


def account(*, password: str | None = "hash", disabled: bool = False, owns: bool = True) -> Account:  # noqa: S107
    return Account(UUID(int=1), "alice", password, disabled, owns)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (account(), None),
        (account(password=None), None),  # a password is one method of several
        (None, Reason.USER_UNKNOWN),
        (account(disabled=True), Reason.USER_DISABLED),
        (account(owns=False), Reason.OTHERS_DEVICE),
        (account(owns=False, disabled=True), Reason.OTHERS_DEVICE),
    ],
)
def test_whose_account_counts(known: Account | None, reason: Reason | None) -> None:
    assert why_nobody(known) == reason


METHODS = ("pwd", "fed", "otp", "backup", "hwk", "mfa")


@pytest.mark.parametrize(
    ("methods", "enough"),
    [
        ("", False),
        ("pwd", False),
        ("pwd fed", False),  # two of one kind are one factor
        ("otp", False),
        ("otp backup", False),
        ("pwd otp", True),
        ("pwd backup", True),
        ("fed otp", True),
        ("fed backup", True),
        ("hwk", False),  # a key somebody found
        ("hwk mfa", True),  # a key and the person's finger
        ("fed mfa", True),
    ],
)
def test_which_methods_suffice(methods: str, enough: bool) -> None:  # noqa: FBT001
    assert suffices(frozenset(methods.split())) == enough


@given(st.frozensets(st.sampled_from(METHODS)), st.sampled_from(METHODS))
def test_another_proof_never_makes_a_login_worse(methods: frozenset[str], another: str) -> None:
    assert suffices(methods | {another}) >= suffices(methods)
    assert suffices(of_session(methods)) == suffices(methods) == ("mfa" in of_session(methods))


@pytest.mark.parametrize(
    ("set_up", "allowed"), [("", True), ("password", True), ("otp", False), ("backup_code", False)]
)
def test_a_password_alone_adds_no_second_authenticator(set_up: str, allowed: bool) -> None:  # noqa: FBT001
    assert may_enrol(replace(account(), set_up=frozenset(set_up.split()))) == allowed


CONFIRMED = Authenticator(SECRET, b"sealed", confirmed=True, last_step=None)
FRESH = Authenticator(SECRET, b"sealed", confirmed=False, last_step=None)
USED = Authenticator(SECRET, b"sealed", confirmed=True, last_step=STEP)


@pytest.mark.parametrize(
    ("authenticator", "code", "enrols", "answer"),
    [
        (None, CODE, True, totp.Refused(totp.Reason.NOT_SET_UP)),
        (FRESH, CODE, True, Right(FRESH, STEP)),
        (FRESH, CODE, False, totp.Refused(totp.Reason.NOT_SET_UP)),
        (FRESH, "000000", True, totp.Refused(totp.Reason.WRONG)),
        (CONFIRMED, CODE, False, Right(CONFIRMED, STEP)),
        (CONFIRMED, "", False, totp.Refused(totp.Reason.MALFORMED)),
        (USED, CODE, False, totp.Refused(totp.Reason.USED)),
    ],
)
def test_what_a_code_is_worth(authenticator: Authenticator | None, code: str, enrols: bool, answer: object) -> None:  # noqa: FBT001
    assert judge_code(authenticator, code, NOW, may_enrol=enrols) == answer
