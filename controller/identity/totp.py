"""Time-based one-time codes (RFC 6238), as every authenticator app makes them.

Laws:

1. Six digits, SHA-1, 30 seconds: what all apps support, whatever else they promise.
2. A code of the step before or after now is accepted too (RFC 6238 section 5.2): clocks drift, people are slow.
3. No step is accepted twice, nor one before the last accepted. Whoever accepts must store the step with a conditional
   UPDATE; this module says which step it is.
4. Every candidate is compared, in constant time, whichever matches.
5. What is not accepted is told the same way whether it was a code once, or will be; only the audit log knows.
"""

import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

import pyotp

from certs.secret import Secret

STEP_SECONDS: Final = 30
DIGITS: Final = 6
WINDOW: Final = 1  # steps either side of now
TOLD: Final = 10  # steps either side of now that the audit log tells from any other number
_CODE: Final = re.compile(r"\A[0-9]{6}\Z")
_SPACES: Final = re.compile(r"[\s-]")


class Reason(StrEnum):
    """Why a code was not accepted."""

    MALFORMED = "otp_malformed"
    WRONG = "otp_wrong"
    LATE = "otp_late"
    EARLY = "otp_early"
    USED = "otp_used"
    NOT_SET_UP = "otp_not_set_up"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The code is the one of `step`, which must be stored as the last accepted."""

    step: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The code is not accepted."""

    reason: Reason


def new_secret() -> Secret:
    """A new authenticator secret: base32 text of 160 bits, the length of SHA-1 (RFC 4226 section 4)."""
    return Secret(pyotp.random_base32(32).encode())


def provisioning_uri(secret: Secret, *, user: str, domain: str) -> str:
    """The otpauth URI an authenticator app scans."""
    return _totp(secret).provisioning_uri(name=user, issuer_name=f"gloam {domain}")


def step_of(now: datetime) -> int:
    """The time step `now` is in."""
    return int(now.timestamp()) // STEP_SECONDS


def code_of(secret: Secret, step: int) -> str:
    """The six digits of `step`."""
    return _totp(secret).generate_otp(step)


def verify(secret: Secret, code: str, *, now: datetime, last_step: int | None) -> Accepted | Refused:
    """Whether `code` (spaces and hyphens are ignored) is good at `now`, given the last accepted step."""
    code = _SPACES.sub("", code)
    if not _CODE.match(code):
        return Refused(Reason.MALFORMED)
    current = step_of(now)
    steps = range(current - WINDOW, current + WINDOW + 1)
    matching = [step for step in steps if hmac.compare_digest(code_of(secret, step), code)]
    fresh = [step for step in matching if last_step is None or step > last_step]
    if fresh:
        return Accepted(fresh[0])
    return Refused(Reason.USED if matching else _why_wrong(secret, code, current))


def _why_wrong(secret: Secret, code: str, current: int) -> Reason:
    """A code of a few minutes ago or ahead is a clock that is wrong, which the audit log is told (law 5)."""
    if any(hmac.compare_digest(code_of(secret, current - off), code) for off in range(WINDOW + 1, TOLD + 1)):
        return Reason.LATE
    if any(hmac.compare_digest(code_of(secret, current + off), code) for off in range(WINDOW + 1, TOLD + 1)):
        return Reason.EARLY
    return Reason.WRONG


def _totp(secret: Secret) -> pyotp.TOTP:
    return pyotp.TOTP(secret.reveal().decode(), digits=DIGITS, interval=STEP_SECONDS)
