from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Bar, Row, Sense, middle, percentile, rounded, shown

samples = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=200)


def test_nothing_has_no_middle_and_no_percentile() -> None:
    assert middle([]) is None
    assert percentile([], 99) is None


@given(samples)
def test_the_middle_is_the_median(values: list[float]) -> None:
    assert middle(values) == median(values)


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(100, 99, 99), (100, 100, 100), (100, 1, 1), (200, 99, 198), (300, 99, 297), (1, 99, 1), (2, 50, 1), (10, 0, 1)],
)
def test_a_percentile_is_the_sample_of_its_rank(count: int, percent: float, rank: int) -> None:
    assert percentile(list(range(count, 0, -1)), percent) == rank


@given(samples, st.floats(0, 100))
def test_a_percentile_was_measured_and_is_not_exceeded_by_so_many(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100


@pytest.mark.parametrize(
    ("row", "ratio", "met"),
    [
        (Row("cpu", "s/GB", 0.8, 1.0, "HAProxy", Bar(Sense.AT_MOST, 1.0, of_peer=True)), 0.8, True),
        (Row("cpu", "s/GB", 1.0, 1.0, "HAProxy", Bar(Sense.AT_MOST, 1.0, of_peer=True)), 1.0, True),
        (Row("cpu", "s/GB", 1.2, 1.0, "HAProxy", Bar(Sense.AT_MOST, 1.0, of_peer=True)), 1.2, False),
        (Row("cpu", "s/GB", 0.8, bar=Bar(Sense.AT_MOST, 1.0, of_peer=True)), None, None),
        (Row("open", "ms", 25.0, bar=Bar(Sense.AT_MOST, 25)), None, True),
        (Row("open", "ms", 25.1, bar=Bar(Sense.AT_MOST, 25)), None, False),
        (Row("knocks", "/s", 10_000, bar=Bar(Sense.AT_LEAST, 10_000)), None, True),
        (Row("knocks", "/s", 9_999, bar=Bar(Sense.AT_LEAST, 10_000)), None, False),
        (Row("open", "ms", None, bar=Bar(Sense.AT_MOST, 25)), None, None),
        (Row("open", "ms", 5.0), None, None),
        (Row("cpu", "s/GB", 1.0, 0.0, "broken"), None, None),
    ],
)
def test_ratio_and_verdict(row: Row, *, ratio: float | None, met: bool | None) -> None:
    assert row.ratio == ratio
    assert row.met is met


def test_a_row_is_kept_with_the_keys_others_read() -> None:
    bar, aim = (Bar(Sense.AT_MOST, bound, of_peer=True) for bound in (1.0, 0.8))
    row = Row("cpu", "s/GB", 0.81234, 1.0, "HAProxy", bar, aim)
    assert row.document() == {
        "name": "cpu",
        "unit": "s/GB",
        "ours": 0.8123,
        "peer": 1.0,
        "peer_name": "HAProxy",
        "ratio": 0.8123,
        "bar": "≤ 1 x peer",
        "met": True,
        "aim": "≤ 0.8 x peer",
        "aim_met": False,
        "note": None,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0.00"),
        (0.8557, "0.86"),
        (12.345, "12.3"),
        (123.4, "123"),
        (24_230.4, "24,230"),
        (-3.1, "-3.10"),
    ],
)
def test_figures_as_people_read_them(value: float | None, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(("value", "short"), [(None, None), (0.0, 0.0), (123_456.0, 123_500.0), (0.0012345, 0.001234)])
def test_four_significant_digits_are_kept(value: float | None, short: float | None) -> None:
    assert rounded(value) == short


def test_a_bar_reads_as_a_sentence() -> None:
    assert Bar(Sense.AT_LEAST, 80_000).text("/CPU s") == "≥ 80,000 /CPU s"
    assert Bar(Sense.AT_MOST, 25).text() == "≤ 25"
    assert Bar(Sense.AT_MOST, 0.9, of_peer=True).text("ms") == "≤ 0.9 x peer"
