"""The rules of login: what is known about the account and the proofs, to what is answered (pure).

Laws:

1. Whether the account exists, is disabled, has no password, or is not the device's owner's, the answer is that of a
   wrong password: one text (`BAD_CREDENTIALS`). The audit log has the true reason.
2. Nothing about codes is said before a first factor was right.
3. Two factors make a login: one of `FIRST` and one of `SECOND`; or a method that is both by itself, which says `mfa`.
4. An authenticator counts once a code of it was seen. Until then its secret is shown again at each login: whoever lost
   the first screen still gets in, and somebody who logs in twice does not end up with two.
5. A service has no second factor, and no first: its device's certificate is all there is, and `cert` all that policies
   see. It cannot step up, and changes nothing about itself.
6. An authenticator is set up at login only for an account that has no second factor of any kind: with one, a stolen
   password must not be enough to add another, and at a step-up a live session must not be.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from certs.secret import Secret
from console.address import format_duration
from controller.identity import totp

FIRST: Final = frozenset({"pwd", "fed", "session"})
LIVE: Final = frozenset({"session"})
"""What a live session that began with two factors proves, on the same device: one of `SECOND` steps it up."""
SECOND: Final = frozenset({"otp", "backup"})
MFA: Final = "mfa"
NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When a service proved a second factor."""


class Reason(StrEnum):
    """Why a login was refused, for the audit log."""

    USER_UNKNOWN = "user_unknown"
    USER_DISABLED = "user_disabled"
    NO_PASSWORD = "no_password"  # noqa: S105 - a code
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a code
    OTHERS_DEVICE = "others_device"
    TOO_MANY = "too_many_attempts"
    AT_WORK = "at_work"
    NO_SESSION = "no_session"
    NOT_FOR_SERVICES = "not_for_services"
    BUSY = "busy"
    CHANGED_MEANWHILE = "changed_meanwhile"
    BAD_CSR = "bad_csr"


@dataclass(frozen=True, slots=True)
class Told:
    """A refusal as the person sees it."""

    code: str
    sentence: str
    fix: str


@dataclass(frozen=True, slots=True)
class Account:
    """A user's row, whether the device that asks is theirs, and which methods (by `kind`) are set up for them."""

    user_id: UUID
    name: str
    password_hash: str | None
    disabled: bool
    owns_device: bool
    set_up: frozenset[str] = frozenset()
    service: bool = False


@dataclass(frozen=True, slots=True)
class Authenticator:
    """A user's TOTP row, opened. `sealed` is the row's value as read: an update must still find it."""

    secret: Secret
    sealed: bytes
    confirmed: bool
    last_step: int | None


BAD_CREDENTIALS: Final = Told("bad_credentials", "the user name or the password is not right", "try again")
AT_WORK: Final = Told("at_work", "another attempt is being answered", "wait a second and try again")
BUSY: Final = Told("busy", "too many people are logging in at this moment", "try again in a few seconds")
OVER: Final = Told("login_over", "something changed while you were logging in", "try again")
MORE: Final = Told("more", "something is still missing to know who you are", "give one of what is asked for")

WRONG_CODE: Final = Told(
    "otp_wrong", "this is not the code of now", "type the code your authenticator shows now; check its clock"
)
CODES: Final = {
    totp.Reason.MALFORMED: Told(
        "otp_malformed", "a code is six digits", "type the six digits your authenticator shows now"
    ),
    **dict.fromkeys((totp.Reason.WRONG, totp.Reason.LATE, totp.Reason.EARLY), WRONG_CODE),
    totp.Reason.USED: Told("otp_used", "this code was used already", "wait for the next code, at most 30 seconds"),
    totp.Reason.NOT_SET_UP: Told(
        "otp_not_set_up", "no authenticator is set up for you", "log in without a code; what you see then sets one up"
    ),
}
BACKUP_MALFORMED: Final = Told(
    "backup_code_malformed", "this is no backup code", "type its 16 letters and digits as they were shown"
)
BACKUP_WRONG: Final = Told(
    "backup_code_wrong", "this is not one of your backup codes", "take one of those that were shown last"
)
BACKUP_USED: Final = Told("backup_code_used", "this backup code was used already", "take the next one of your list")
NOT_OFFERED: Final = Told(
    "authenticator_not_offered",
    "no new authenticator was shown on this device lately",
    "begin anew: gloam authenticator",
)
NOT_FOR_SERVICES: Final = Told(
    "not_for_services", "a service logs in by its device's certificate alone", "run gloam login, without options"
)
NO_SESSION: Final = Told("no_session", "there is no session on this device to step up", "run gloam login")


def too_many(wait: timedelta) -> Told:
    """Somebody has to wait, whoever they are and whether the account exists."""
    seconds = -(-wait // timedelta(seconds=1))
    fix = f"wait {format_duration(timedelta(seconds=seconds))} and try again, or ask an administrator to unlock you"
    return Told("too_many_attempts", "too many attempts failed", fix)


def why_nobody(account: Account | None) -> Reason | None:
    """The true reason the account does not count here, whatever is proved; None if it does (law 1)."""
    if account is None:
        return Reason.USER_UNKNOWN
    if not account.owns_device:
        return Reason.OTHERS_DEVICE
    return Reason.USER_DISABLED if account.disabled else None


def suffices(methods: frozenset[str]) -> bool:
    """Whether what was proved makes a login (law 3)."""
    return MFA in methods or bool(methods & FIRST and methods & SECOND)


def of_session(methods: frozenset[str]) -> frozenset[str]:
    """The methods a session is remembered by: those proved, and `mfa` where they are two factors."""
    return methods | {MFA} if suffices(methods) else methods


def second_factor_at(proved: Iterable[tuple[frozenset[str], datetime | None]], now: datetime) -> datetime:
    """How fresh the second factor is, of proofs that suffice: methods of each, and when, if it was not just now."""
    return max((at or now for methods, at in proved if methods & (SECOND | {MFA})), default=now)


def may_enrol(account: Account, before: frozenset[str] = frozenset()) -> bool:
    """Whether an authenticator may be set up at login (law 6); `before`: what was proved by other means already."""
    return not before and not account.set_up - {"password"}


@dataclass(frozen=True, slots=True)
class Right:
    """The code is right. `step` must be stored, by a conditional update, before anything else counts."""

    authenticator: Authenticator
    step: int


def judge_code(
    authenticator: Authenticator | None, code: str, now: datetime, *, may_enrol: bool
) -> Right | totp.Refused:
    """What `code` is worth; the first of an unconfirmed authenticator counts only if one `may_enrol`."""
    if authenticator is None or not (authenticator.confirmed or may_enrol):
        return totp.Refused(totp.Reason.NOT_SET_UP)
    match totp.verify(authenticator.secret, code, now=now, last_step=authenticator.last_step):
        case totp.Accepted(step):
            return Right(authenticator, step)
        case refused:
            return refused
