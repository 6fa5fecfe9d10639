"""controller/authority/rules.py, case by case."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from certs import Purpose, issue_intermediate, issue_root
from controller.authority.rules import (
    Intermediate,
    Standing,
    Times,
    begins_by,
    gone_by,
    issuing,
    may_begin,
    standing,
)

NOW = datetime(2025, 6, 1, 12, 0, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
TIMES = Times(session=10 * MINUTE, device=30 * DAY, service=20 * DAY, outage=15 * MINUTE)
CERTIFICATE = issue_intermediate(issue_root("example.test", now=NOW), Purpose.DEVICES, "example.test", now=NOW)


def one(purpose: Purpose, made: int, began: int | None, gone: int | None = None) -> Intermediate:
    """An intermediate whose moments are minutes after NOW."""
    at = [None if minutes is None else NOW + minutes * MINUTE for minutes in (began, gone)]
    return Intermediate(uuid4(), purpose, CERTIFICATE.certificate, NOW + made * MINUTE, *at)


def test_the_one_that_began_last_issues_and_the_others_are_on_their_way() -> None:
    retired, old = one(Purpose.DEVICES, 0, 0, 9), one(Purpose.DEVICES, 1, 1)
    now, coming = one(Purpose.DEVICES, 2, 5), one(Purpose.DEVICES, 3, None)
    other = one(Purpose.SESSIONS, 8, 8)
    all_ = [coming, now, old, retired, other]
    assert issuing(Purpose.DEVICES, all_) == now
    assert issuing(Purpose.SERVICES, all_) is None
    assert [standing(each, all_) for each in all_] == [
        Standing.NEXT, Standing.ISSUING, Standing.RETIRING, Standing.RETIRED, Standing.ISSUING,
    ]  # fmt: skip


@pytest.mark.parametrize("purpose", list(Purpose))
def test_the_next_waits_for_gateways_as_long_as_they_may_have_leases(purpose: Purpose) -> None:
    coming = one(purpose, 0, None)
    by = begins_by(coming, TIMES)
    assert by == NOW + 25 * MINUTE
    assert may_begin(coming, (), TIMES, NOW)
    assert may_begin(coming, ("edge",), TIMES, by)
    assert may_begin(coming, ("edge",), TIMES, by - MINUTE) == (purpose is Purpose.DEVICES)


@pytest.mark.parametrize(
    ("purpose", "lasts"),
    [
        (Purpose.SESSIONS, 10 * MINUTE),
        (Purpose.DEVICES, 30 * DAY),
        (Purpose.SERVICES, 20 * DAY),
    ],
)
def test_a_retiring_one_goes_when_nothing_hangs_on_it(purpose: Purpose, lasts: timedelta) -> None:
    old, newer, newest = one(purpose, 0, 0), one(purpose, 5, 6), one(purpose, 7, 8)
    all_ = [newest, one(Purpose.DEVICES if purpose is not Purpose.DEVICES else Purpose.SESSIONS, 1, 1), old, newer]
    assert gone_by(old, all_, TIMES) == NOW + 6 * MINUTE + lasts
    assert gone_by(newer, all_, TIMES) == NOW + 8 * MINUTE + lasts
    assert gone_by(newest, all_, TIMES) is None
    assert gone_by(one(purpose, 9, None), all_, TIMES) is None
    assert gone_by(replace(old, retired_at=NOW), all_, TIMES) is None


def test_a_retiring_one_goes_with_its_own_certificate_at_the_latest() -> None:
    old, new = one(Purpose.DEVICES, 0, 0), one(Purpose.DEVICES, 0, 60 * 24 * 1800)
    assert gone_by(old, [old, new], TIMES) == CERTIFICATE.certificate.not_valid_after_utc
