from datetime import UTC, datetime
from uuid import UUID

from gateway.reports import RefusedKnocks, Reports
from wire.messages import REPORTS_AT_ONCE, Address, TunnelRefused

AT = datetime(2026, 1, 1, tzinfo=UTC)


def refused(number: int) -> TunnelRefused:
    source = Address(host="127.0.0.1", port=1)
    return TunnelRefused(session=UUID(int=number), resource="wiki", source=source, status=403, code="no_grant", at=AT)


def drained(reports: Reports) -> list[int]:
    numbers: list[int] = []
    while batch := reports.next():
        assert len(batch) <= REPORTS_AT_ONCE
        numbers += [report.session.int for report in batch]
        reports.sent(batch)
    return numbers


def test_reports_leave_in_order_once_they_were_sent() -> None:
    reports = Reports()
    for number in range(20):
        reports.add(refused(number))
    assert reports.next() == reports.next()
    assert drained(reports) == list(range(20))
    assert len(reports) == 0


def test_a_full_queue_loses_the_oldest_and_counts_it() -> None:
    reports = Reports(capacity=2)
    for number in range(5):
        reports.add(refused(number))
    assert reports.lost == 3
    assert drained(reports) == [3, 4]


def test_a_report_that_was_dropped_while_it_was_being_sent_takes_no_other_with_it() -> None:
    reports = Reports(capacity=2)
    reports.add(refused(1))
    reports.add(refused(2))
    sending = reports.next()
    reports.add(refused(3))
    reports.sent(sending)
    assert drained(reports) == [3]


def test_a_flood_of_refused_knocks_is_a_few_reports() -> None:
    knocks = RefusedKnocks(capacity=2)
    for _ in range(1000):
        knocks.add("device/a", "192.0.2.1", "clock_skew")
    knocks.add("device/b", "192.0.2.1", "replayed")
    for number in range(500):
        knocks.add(f"device/{number}", "192.0.2.1", "replayed")
    told = {(each.key_id, each.code): each.count for each in knocks.take(AT)}
    assert told == {("device/a", "clock_skew"): 1000, ("device/b", "replayed"): 1, ("", "replayed"): 500}
    assert knocks.take(AT) == ()
