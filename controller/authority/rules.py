"""The life of an intermediate, as rules: what it is now, when the next may issue, when the last may go (pure).

Laws:

1. Of each purpose one issues: the one that began last. One that has not begun yet is `next`, one that issued before is
   `retiring`, and both are trusted; a `retired` one is trusted by nobody.
2. The next begins once every gateway has it in force, or could not have a lease any more without having heard of it.
   Only controllers verify devices, so theirs begins at once.
3. A retiring one goes when nothing that it signed counts any more: a lifetime after its successor began. (A device or
   gateway whose certificate has ended recovers by its key, which needs no intermediate.)
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from cryptography import x509

from certs.names import Purpose


class Standing(StrEnum):
    """What an intermediate is now."""

    NEXT = "next"
    ISSUING = "issuing"
    RETIRING = "retiring"
    RETIRED = "retired"


@dataclass(frozen=True)
class Intermediate:
    """An intermediate and its moments. `issuing_at`: when it began to issue; None before."""

    id: UUID
    purpose: Purpose
    certificate: x509.Certificate
    created_at: datetime
    issuing_at: datetime | None
    retired_at: datetime | None


@dataclass(frozen=True)
class Times:
    """How long things count that hang on intermediates."""

    session: timedelta
    device: timedelta
    service: timedelta
    outage: timedelta

    def hanging(self, purpose: Purpose) -> timedelta:
        """How long after its issue a certificate can still be used for something."""
        lasts = {
            Purpose.SESSIONS: self.session,
            Purpose.DEVICES: self.device,
            Purpose.SERVICES: self.service,
        }
        return lasts[purpose]


def standing(one: Intermediate, all_: Iterable[Intermediate]) -> Standing:
    """What `one` is among all of them."""
    if one.retired_at is not None:
        return Standing.RETIRED
    if one.issuing_at is None:
        return Standing.NEXT
    return Standing.ISSUING if issuing(one.purpose, all_) == one else Standing.RETIRING


def issuing(purpose: Purpose, all_: Iterable[Intermediate]) -> Intermediate | None:
    """The one that issues for a purpose."""
    begun = ((one.issuing_at, one) for one in all_ if one.purpose is purpose and one.retired_at is None)
    return max(((at, one) for at, one in begun if at is not None), key=lambda pair: pair[0], default=(None, None))[1]


def may_begin(one: Intermediate, waiting: Collection[str], times: Times, now: datetime) -> bool:
    """Whether a `next` one may issue; `waiting` are the gateways that do not have it in force."""
    if one.purpose is Purpose.DEVICES or not waiting:
        return True
    return now >= begins_by(one, times)


def begins_by(one: Intermediate, times: Times) -> datetime:
    """When a gateway that has heard nothing since `one` was made can have no lease any more."""
    return one.created_at + times.session + times.outage


def gone_by(one: Intermediate, all_: Iterable[Intermediate], times: Times) -> datetime | None:
    """When nothing hangs on a retiring one any more; None for one that is not retiring."""
    if one.issuing_at is None or one.retired_at is not None:
        return None
    later = [
        each.issuing_at
        for each in all_
        if each.purpose is one.purpose and each.issuing_at is not None and each.issuing_at > one.issuing_at
    ]
    if not later:
        return None
    return min(min(later) + times.hanging(one.purpose), one.certificate.not_valid_after_utc)
