from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from spa.limits import WINDOW_SECONDS
from spa.packet import KnockKind
from spa.windows import Window, Windows

A, B = IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1")
CONTROL, TUNNEL = KnockKind.CONTROL, KnockKind.TUNNEL


def test_a_window_is_open_for_its_time_and_no_longer() -> None:
    windows = Windows()
    assert windows.open(A, 443, CONTROL, "device/1", 100.0)
    assert windows.kinds(A, 443, 100.0 + WINDOW_SECONDS - 0.001) == {CONTROL}
    assert windows.kinds(A, 443, 100.0 + WINDOW_SECONDS) == frozenset()
    assert windows.kinds(A, 444, 100.0) == windows.kinds(B, 443, 100.0) == frozenset()
    assert windows.expire(100.0 + WINDOW_SECONDS - 0.001) == frozenset()
    assert windows.expire(100.0 + WINDOW_SECONDS) == {Window(A, 443)}
    assert len(windows) == 0
    assert windows.earliest_deadline() is None


def test_the_same_knock_again_extends_and_never_duplicates() -> None:
    windows = Windows(10)
    assert windows.open(A, 443, CONTROL, "device/1", 0.0)
    for second in range(1, 6):
        assert not windows.open(A, 443, CONTROL, "device/1", float(second))
    assert len(windows._deadlines) == 1
    assert windows.earliest_deadline() == 15.0
    assert windows.expire(14.9) == frozenset()
    assert Window(A, 443) in windows


def test_a_window_tells_for_what_and_for_whom_it_is_open() -> None:
    windows = Windows(10)
    windows.open(A, 443, CONTROL, "device/1", 0.0)
    windows.open(A, 443, TUNNEL, "device/2", 5.0)
    assert windows.kinds(A, 443, 5.0) == {CONTROL, TUNNEL}
    assert windows.key_ids(A, 443, 5.0) == {"device/1", "device/2"}
    assert windows.expire(10.0) == frozenset()
    assert windows.kinds(A, 443, 10.0) == {TUNNEL}
    assert windows.key_ids(A, 443, 10.0) == {"device/2"}


def test_the_end_of_a_key_closes_what_it_opened_and_nothing_else() -> None:
    windows = Windows(10)
    windows.open(A, 443, CONTROL, "device/1", 0.0)
    windows.open(A, 443, CONTROL, "device/2", 0.0)
    windows.open(B, 443, CONTROL, "device/1", 0.0)
    assert windows.close("device/1") == {Window(B, 443)}
    assert windows.open_windows == {Window(A, 443)}


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([CONTROL, TUNNEL]), st.integers(0, 3)), max_size=40))
def test_windows_are_what_a_plain_list_of_knocks_says(steps: list[tuple[int, KnockKind, int]]) -> None:
    windows, said, now = Windows(5), [], 0.0
    for wait, kind, number in steps:
        now += wait
        windows.expire(now)
        windows.open(A, 443, kind, f"device/{number}", now)
        said.append((now, kind, f"device/{number}"))
        live = [each for each in said if each[0] + 5 > now]
        assert windows.kinds(A, 443, now) == {each[1] for each in live}
        assert windows.key_ids(A, 443, now) == {each[2] for each in live}
        last = {each[1:]: each[0] for each in said}
        assert windows.earliest_deadline() == min(at + 5 for at in last.values() if at + 5 > now)


def test_a_connection_spends_the_window_of_its_source_and_no_other() -> None:
    windows = Windows(10)
    windows.open(A, 443, TUNNEL, "device/1", 1.0)
    windows.open(A, 443, CONTROL, "device/2", 3.0)
    windows.open(A, 444, TUNNEL, "device/1", 1.0)
    windows.open(B, 443, TUNNEL, "device/3", 1.0)
    assert windows.spend(A, 443) == {Window(A, 443)}
    assert windows.spend(A, 443) == frozenset()
    assert windows.open_windows == {Window(A, 444), Window(B, 443)}
    assert windows.expire(11.0) == {Window(A, 444), Window(B, 443)}


def test_what_changed_is_remembered_until_somebody_takes_note() -> None:
    windows = Windows(10)
    windows.open(A, 443, CONTROL, "device/1", 0.0)
    windows.open(B, 443, CONTROL, "device/1", 1.0)
    assert windows.take_changed() == {Window(A, 443), Window(B, 443)}
    assert windows.take_changed() == set()
    windows.open(A, 443, TUNNEL, "device/2", 5.0)
    assert windows.take_changed() == {Window(A, 443)}
    assert (windows.deadline(A, 443), windows.deadline(B, 443), windows.deadline(B, 444)) == (15.0, 11.0, None)
    windows.expire(11.0)
    assert windows.take_changed() == {Window(A, 443), Window(B, 443)}, "one of its grants ended, and the other window"
    assert (windows.deadline(A, 443), windows.deadline(B, 443)) == (15.0, None)


def test_a_key_cannot_hold_more_than_its_share() -> None:
    windows = Windows(10, most_of_key=3)
    sources = [IPv4Address(0x0A000000 + i) for i in range(5)]
    windows.open(B, 443, CONTROL, "device/2", 0.0)
    for second, source in enumerate(sources[:3]):
        windows.open(source, 443, CONTROL, "device/1", float(second))
    windows.open(sources[0], 443, CONTROL, "device/1", 3.0)  # again: now the second is the oldest
    for source in sources[3:]:
        windows.open(source, 443, CONTROL, "device/1", 4.0)
    held = {window.source for window in windows.open_windows}
    assert held == {B, sources[0], sources[3], sources[4]}
    assert windows.versions == {4: 3, 6: 1}
    assert windows.close("device/1") == {Window(source, 443) for source in held - {B}}
    assert windows.versions[4] == 0
