"""From raw samples, as `latest.json` keeps them, to the rows of the table."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.connections import connection_rows
from bench.figures import Bar, Row, Sense
from bench.knocks import knock_rows
from bench.opening import opening_rows
from bench.relay import relay_rows
from bench.report import keep, print_report
from bench.revocation import revocation_rows

MACHINE: dict[str, Any] = {
    "cores": 2,
    "cpu": "a CPU",
    "kernel": "Linux 6",
    "python": "CPython 3.11",
    "uvloop": None,
    "openssl": "4.0",
    "load_at_start": [0.5, 0.25, 0.0],
    "peers": {"HAProxy": "2.6", "stunnel": None},
}


def transfer(side: str, direction: str, cpu: float) -> dict[str, Any]:
    return {"side": side, "direction": direction, "bytes": 500_000_000, "cpu_seconds": cpu}


def test_relay_rows_compare_medians_a_gigabyte_with_each_peer() -> None:
    samples = [transfer("gloam", "down", cpu) for cpu in (0.4, 9.0, 0.3)]
    samples += [transfer("HAProxy", "down", 0.5), transfer("stunnel", "down", 0.8), transfer("gloam", "up", 0.5)]
    samples += [transfer("HAProxy", "up", 0.25)]
    rows = relay_rows(samples)
    assert [(row.peer_name, row.ours, row.ratio, row.met) for row in rows] == [
        ("HAProxy", 0.8, 0.8, True),
        ("stunnel", 0.8, 0.5, None),
        ("HAProxy", 1.0, 2.0, False),
    ]


def test_without_peers_our_figures_stand_alone() -> None:
    rows = relay_rows([transfer("gloam", "down", 0.4), transfer("gloam", "up", 0.5)])
    assert [(row.ours, row.peer, row.met) for row in rows] == [(0.8, None, None), (1.0, None, None)]


def test_connection_rows() -> None:
    samples = [
        {"side": side, "connections": 10, "cpu_seconds": cpu}
        for side, cpu in (("gloam", 0.02), ("gloam", 0.04), ("HAProxy", 0.06))
    ]
    assert [(row.ours, row.peer, row.peer_name) for row in connection_rows(samples)] == [(3.0, 6.0, "HAProxy")]
    assert [(row.ours, row.peer) for row in connection_rows(samples[:2])] == [(3.0, None)]


def test_opening_rows() -> None:
    middle, slow = opening_rows([{"ms": float(ms)} for ms in range(1, 201)])
    assert (middle.ours, middle.met) == (100.5, False)
    assert slow.ours == 198


def test_revocation_rows_pool_the_cuts_of_all_revocations() -> None:
    samples = [
        {"live_at_gateway": 100, "controller_ms": 20.0, "cut_ms": [float(each) for each in range(1, 101)]},
        {"live_at_gateway": 99, "controller_ms": 30.0, "cut_ms": [5.0] * 100},
    ]
    slow, _, acknowledged = revocation_rows(samples)
    assert (slow.ours, slow.met) == (98, True)
    assert slow.note == "200 cuts in 2 revocations, 99 tunnels live in each"
    assert acknowledged.ours == 25


@pytest.mark.parametrize(
    ("counted", "ours"), [({"admitted": 9_000}, 18_000), ({"admitted": 9_000, "cloak_full": 5_000}, 8_000), ({}, 0)]
)
def test_a_knock_counts_where_it_opened(counted: dict[str, int], ours: float) -> None:
    sample = {"kind": "valid", "sources": 1, "sent": 9_500, "counted": counted, "cpu_seconds": 0.5, "wall_seconds": 1.0}
    row = next(each for each in knock_rows([sample]) if "one source" in each.name)
    assert row.ours == ours
    assert row.note == f"by CPU; on the wall clock {ours / 2:,.0f} /s of 9,500 sent"


def test_the_report_shows_rows_missing_peers_problems_and_the_machine() -> None:
    rows = [
        Row("relay CPU", "s/GB", 0.8, 1.0, "HAProxy", Bar(Sense.AT_MOST, 1.0, of_peer=True)),
        Row("opening", "ms", 30.0, bar=Bar(Sense.AT_MOST, 25), note="200 tunnels"),
    ]
    out = StringIO()
    print_report(Console(file=out, width=200), rows, MACHINE, ["knocks: not done within 5 s"])
    text = out.getvalue()
    for part in (
        "1.00 HAProxy", "0.80", "≤ 1 x peer", "yes", "NO", "opening: 200 tunnels", "stunnel is not installed",
        "INCOMPLETE: knocks: not done within 5 s", "2 cores, a CPU, Linux 6", "load at the start 0.5, 0.25, 0",
    ):  # fmt: skip
        assert part in text


def test_samples_and_rows_are_kept_together(tmp_path: Path) -> None:
    path = tmp_path / "results" / "latest.json"
    keep(path, {"machine": MACHINE, "samples": {"opening": [{"ms": 1.0}]}}, [Row("opening", "ms", 1.0)])
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["rows"][0]["name"] == "opening"
    assert document["samples"] == {"opening": [{"ms": 1.0}]}
    assert document["machine"]["cores"] == 2
