from datetime import UTC, datetime
from uuid import UUID

import pytest

from certs import Secret
from controller.identity import totp
from controller.identity.rules import (
    Account,
    AskCode,
    Authenticator,
    Proven,
    Reason,
    SetUp,
    hash_to_check,
    second_factor,
    why_refused,
)

NOW = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
STEP = totp.step_of(NOW)
SECRET = Secret(b"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
CODE = totp.code_of(SECRET, STEP)


def account(*, password: str | None = "hash", disabled: bool = False, owns: bool = True) -> Account:  # noqa: S107
    return Account(UUID(int=1), "alice", password, disabled, owns)


@pytest.mark.parametrize(
    ("known", "matches", "hashed", "reason"),
    [
        (account(), True, "hash", None),
        (account(), False, "hash", Reason.WRONG_PASSWORD),
        (None, False, None, Reason.USER_UNKNOWN),
        (None, True, None, Reason.USER_UNKNOWN),
        (account(disabled=True), True, None, Reason.USER_DISABLED),
        (account(owns=False), True, None, Reason.OTHERS_DEVICE),
        (account(owns=False, disabled=True), True, None, Reason.OTHERS_DEVICE),
        (account(password=None), True, None, Reason.NO_PASSWORD),
    ],
)
def test_who_gets_in(known: Account | None, matches: bool, hashed: str | None, reason: Reason | None) -> None:  # noqa: FBT001
    assert hash_to_check(known) == hashed
    assert why_refused(known, matches=matches) == reason


CONFIRMED = Authenticator(SECRET, b"sealed", confirmed=True, last_step=None)
FRESH = Authenticator(SECRET, b"sealed", confirmed=False, last_step=None)
USED = Authenticator(SECRET, b"sealed", confirmed=True, last_step=STEP)


@pytest.mark.parametrize(
    ("authenticator", "code", "answer"),
    [
        (None, None, SetUp(None)),
        (None, CODE, SetUp(None)),
        (FRESH, None, SetUp(FRESH)),
        (FRESH, CODE, Proven(FRESH, STEP)),
        (FRESH, "000000", totp.Refused(totp.Reason.WRONG)),
        (CONFIRMED, None, AskCode()),
        (CONFIRMED, CODE, Proven(CONFIRMED, STEP)),
        (CONFIRMED, "", totp.Refused(totp.Reason.MALFORMED)),
        (USED, CODE, totp.Refused(totp.Reason.USED)),
    ],
)
def test_what_follows_from_a_code(authenticator: Authenticator | None, code: str | None, answer: object) -> None:
    assert second_factor(authenticator, code, NOW) == answer
