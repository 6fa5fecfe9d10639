"""The rules of login: what is known about the account and the proofs, to what is answered (pure).

Laws:

1. Whether the account exists, is disabled, has no password, or is not the device's owner's, the answer is that of a
   wrong password: one text (`BAD_CREDENTIALS`). The audit log has the true reason.
2. Nothing about codes is said before the password was right.
3. An authenticator counts once a code of it was seen. Until then its secret is shown again at each login: whoever lost
   the first screen still gets in, and somebody who logs in twice does not end up with two.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

from certs.secret import Secret
from controller.identity import totp


class Reason(StrEnum):
    """Why a login was refused, for the audit log."""

    USER_UNKNOWN = "user_unknown"
    USER_DISABLED = "user_disabled"
    NO_PASSWORD = "no_password"  # noqa: S105 - a code
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a code
    OTHERS_DEVICE = "others_device"
    TOO_MANY = "too_many_attempts"
    BUSY = "busy"
    CHANGED_MEANWHILE = "changed_meanwhile"
    BAD_CSR = "bad_csr"


@dataclass(frozen=True, slots=True)
class Account:
    """A user's row, and whether the device that asks is theirs."""

    user_id: UUID
    name: str
    password_hash: str | None
    disabled: bool
    owns_device: bool


@dataclass(frozen=True, slots=True)
class Authenticator:
    """A user's TOTP row, opened. `sealed` is the row's value as read: an update must still find it."""

    secret: Secret
    sealed: bytes
    confirmed: bool
    last_step: int | None


@dataclass(frozen=True, slots=True)
class Told:
    """A refusal as the person sees it."""

    code: str
    sentence: str
    fix: str


BAD_CREDENTIALS: Final = Told("bad_credentials", "the user name or the password is not right", "try again")
TOO_MANY: Final = Told("too_many_attempts", "too many attempts failed on this device", "wait a minute and try again")
BUSY: Final = Told("busy", "too many people are logging in at this moment", "try again in a few seconds")
OVER: Final = Told("login_over", "something changed while you were logging in", "try again")

CODES: Final = {
    totp.Reason.MALFORMED: Told(
        "otp_malformed", "a code is six digits", "type the six digits your authenticator shows now"
    ),
    totp.Reason.WRONG: Told(
        "otp_wrong", "this is not the code of now", "type the code your authenticator shows now; check its clock"
    ),
    totp.Reason.USED: Told("otp_used", "this code was used already", "wait for the next code, at most 30 seconds"),
}


def hash_to_check(account: Account | None) -> str | None:
    """The hash the password is compared with; None to compare with nothing, as slowly (law 1)."""
    if account is None or account.disabled or not account.owns_device:
        return None
    return account.password_hash


def why_refused(account: Account | None, *, matches: bool) -> Reason | None:
    """The true reason the account and its password do not count, or None if they do."""
    if account is None:
        return Reason.USER_UNKNOWN
    if not account.owns_device:
        return Reason.OTHERS_DEVICE
    if account.disabled:
        return Reason.USER_DISABLED
    if account.password_hash is None:
        return Reason.NO_PASSWORD
    return None if matches else Reason.WRONG_PASSWORD


@dataclass(frozen=True, slots=True)
class SetUp:
    """No authenticator counts yet: show this one's secret, or a new one's if there is none."""

    authenticator: Authenticator | None


@dataclass(frozen=True, slots=True)
class AskCode:
    """The code is missing."""


@dataclass(frozen=True, slots=True)
class Proven:
    """The code is right. `step` must be stored, by a conditional update, before anything else counts."""

    authenticator: Authenticator
    step: int


def second_factor(
    authenticator: Authenticator | None, code: str | None, now: datetime
) -> SetUp | AskCode | Proven | totp.Refused:
    """What follows from the authenticator and the code, if any."""
    if authenticator is None:
        return SetUp(None)
    if code is None:
        return AskCode() if authenticator.confirmed else SetUp(authenticator)
    match totp.verify(authenticator.secret, code, now=now, last_step=authenticator.last_step):
        case totp.Accepted(step):
            return Proven(authenticator, step)
        case refused:
            return refused
