"""From raw samples, as `latest.json` keeps them, to the rows of the table."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.budget import FULL, QUICK
from bench.connections import KNOCKING, connection_rows
from bench.figures import Bar, Row, Sense
from bench.flood import flood_rows
from bench.knocks import knock_rows
from bench.many import many_rows
from bench.memory import memory_rows
from bench.opening import opening_rows
from bench.parts import PARTS, rows_of
from bench.relay import relay_rows
from bench.report import keep, print_report
from bench.revocation import revocation_rows
from bench.warm import warm_rows
from bench.workers import worker_rows

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


KNOCKS: dict[str, Any] = {
    "kind": "valid", "sources": 1, "leases": 100_000, "sent": 9_500, "cpu_seconds": 0.5, "wall_seconds": 1.0
}  # fmt: skip


def transfer(side: str, direction: str, cpu: float) -> dict[str, Any]:
    return {"side": side, "direction": direction, "bytes": 500_000_000, "cpu_seconds": cpu}


def test_relay_rows_compare_medians_a_gigabyte_with_each_peer() -> None:
    samples = [transfer("gloam", "down", cpu) for cpu in (0.4, 9.0, 0.3)]
    samples += [transfer("HAProxy", "down", 0.5), transfer("stunnel", "down", 0.8), transfer("gloam", "up", 0.5)]
    samples += [transfer("HAProxy", "up", 0.25)]
    rows = relay_rows(samples)
    assert [(row.peer_name, row.ours, row.ratio, row.met) for row in rows] == [
        ("HAProxy", 0.8, 0.8, True),
        ("stunnel", 0.8, 0.5, True),
        ("HAProxy", 1.0, 2.0, False),
    ]
    assert [row.aim_met for row in rows] == [True, True, False]
    assert [row.name for row in rows[1:]] == [
        "CPU per GB, one tunnel, to client",
        "CPU per GB, one tunnel, from client",
    ]


def test_many_tunnels_are_compared_like_one() -> None:
    samples = [{"tunnels": 100, **transfer(side, "up", cpu)} for side, cpu in (("gloam", 0.48), ("HAProxy", 0.5))]
    up = many_rows(samples)[1]
    assert (up.name, up.peer_name, up.ratio) == ("CPU per GB, 100 tunnels at once, from client", "HAProxy", 0.96)
    assert (up.met, up.aim_met) == (True, False)


def test_without_peers_our_figures_stand_alone() -> None:
    rows = relay_rows([transfer("gloam", "down", 0.4), transfer("gloam", "up", 0.5)])
    assert [(row.ours, row.peer, row.met) for row in rows] == [(0.8, None, None), (1.0, None, None)]


def test_connection_rows() -> None:
    samples = [
        {"side": side, "at_once": at_once, "connections": 10, "cpu_seconds": cpu}
        for side, at_once, cpu in (
            ("gloam", 8, 0.02),
            ("gloam", 8, 0.04),
            (KNOCKING, 8, 0.05),
            ("gloam", 1, 0.09),
            ("HAProxy", 8, 0.06),
            ("HAProxy", 1, 0.06),
        )
    ]
    rows = connection_rows(samples)
    assert [(row.ours, row.peer, row.peer_name, row.met) for row in rows] == [
        (3.0, 6.0, "HAProxy", True),
        (5.0, None, "", None),
        (9.0, 6.0, "HAProxy", None),
    ]
    assert [(row.ours, row.peer) for row in connection_rows(samples[:4])] == [(3.0, None), (5.0, None), (9.0, None)]


def test_where_every_connection_knocks_the_row_says_so() -> None:
    sample = {"side": "gloam", "at_once": 8, "connections": 10, "cpu_seconds": 0.02, "cloak": "on-demand"}
    assert all("every connection" in row.note for row in connection_rows([sample]))


def test_memory_is_held_against_a_figure_with_haproxys_beside_it() -> None:
    samples = [
        {"side": side, "tunnels": 1000, "grown": kib * 1024_000} for side, kib in (("gloam", 40), ("HAProxy", 30))
    ]
    (row,) = memory_rows(samples)
    assert (row.ours, row.peer, row.met, row.aim_met) == (40, 30, True, False)
    (row,) = memory_rows(samples[:1])
    assert (row.ours, row.peer, row.met) == (40, None, True)


def test_flood_rows() -> None:
    calm = [{"during": "calm", "ms": float(ms)} for ms in range(1, 101)]
    attack = [{"during": "attack", "ms": float(ms)} for ms in range(1, 201)]
    end = {"during": "after", "garbage_per_second": 50_000.0, "gateway_cores": 0.5}
    succeed, slowest = flood_rows([*calm, *attack, end])
    assert (succeed.ours, succeed.met, succeed.aim_met) == (100.0, True, True)
    assert "50,000 garbage datagrams a second and took 0.50 cores" in succeed.note
    assert (slowest.ours, slowest.met, slowest.aim_met) == (198.0, True, False)
    assert "p99 99.0 ms" in slowest.note
    failed = [{"during": "attack", "ms": None}] * 3
    succeed, slowest = flood_rows([*calm, *attack, *failed])
    assert succeed.met is False
    assert (slowest.ours, slowest.met) == (None, None), "three of two hundred never came: there is no such time"
    assert flood_rows(calm) == []


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
    assert (slow.ours, slow.met, slow.aim_met) == (98, True, True)
    assert slow.name == "revoke to cut, 99 live tunnels, p99"
    assert slow.note == "200 cuts in 2 revocations, 99 tunnels live in each"
    assert acknowledged.ours == 25


@pytest.mark.parametrize(
    ("counted", "ours"), [({"admitted": 9_000}, 18_000), ({"admitted": 9_000, "cloak_full": 5_000}, 8_000), ({}, 0)]
)
def test_a_knock_counts_where_it_opened(counted: dict[str, int], ours: float) -> None:
    row = next(each for each in knock_rows([{**KNOCKS, "counted": counted}]) if "one source" in each.name)
    assert row.ours == ours
    assert row.note == f"by CPU; on the wall clock {ours / 2:,.0f} /s of 9,500 sent"


def fwknopd(kind: str, keys: int, judged: int) -> dict[str, Any]:
    return {"side": "fwknopd", "kind": kind, "keys": keys, "sent": judged, "judged": judged, "cpu_seconds": 0.5}


def test_knocks_stand_beside_those_fwknopd_takes() -> None:
    samples = [{**KNOCKS, "sources": sources, "kind": kind, "counted": {"admitted": 9_000, "dropped.locator": 60_000}}
               for kind, sources in (("valid", 1), ("valid", 1000), ("garbage", 1000))]  # fmt: skip
    samples += [fwknopd("valid", 1, 50), fwknopd("garbage", 1, 2500), fwknopd("garbage", 500, 120)]
    many, one, garbage = knock_rows(samples)
    assert [(row.ours, row.peer, row.ratio, row.met) for row in (many, one)] == [(18_000, 100, 180, True)] * 2
    assert many.name == "valid knocks, 100,000 leases, 1,000 sources"
    assert (garbage.ours, garbage.peer, garbage.met, garbage.aim_met) == (120_000, 240, True, False)
    assert garbage.note.endswith("fwknopd with 500 keys; with one key 5,000")


def test_without_fwknopd_our_knocks_stand_alone_and_the_note_says_why() -> None:
    row = knock_rows([{**KNOCKS, "sources": 1000, "counted": {}}, {"side": "fwknopd", "skipped": "needs root"}])[0]
    assert (row.peer, row.note) == (None, "by CPU; on the wall clock 0 /s of 9,500 sent; needs root")
    assert knock_rows([fwknopd("valid", 1, 50)]) == []


def flow(side: str, workers: int, wall: float) -> dict[str, Any]:
    return {"side": side, "workers": workers, "bytes": 2_000_000_000, "wall_seconds": wall,
            "cpu_seconds": 1.6, "load_cpu_seconds": 0.2, "source_cpu_seconds": 0.4}  # fmt: skip


def test_two_workers_are_compared_with_one_and_with_threads_of_a_peer() -> None:
    samples = [flow("gloam", 1, 4.0), flow("gloam", 2, 2.5), flow("HAProxy", 1, 4.0), flow("HAProxy", 2, 2.0)]
    (row,) = worker_rows(samples)
    assert (row.ours, row.peer, row.ratio, row.met, row.aim_met) == (1.6, 2.0, 0.8, None, True)
    assert row.note == (
        "gloam 0.50 and 0.80 GB/s; HAProxy 0.50 and 1.00 GB/s; CPU s/GB with 2: gateway 0.80, load 0.10, source 0.20"
    )
    assert worker_rows(samples[:1])[0].aim_met is None
    (row,) = worker_rows([{"skipped": "needs cc"}])
    assert (row.ours, row.aim_met, row.note) == (None, None, "needs cc")


def test_warm_rows() -> None:
    samples = [{"how": "library", "ms": each / 10} for each in range(1, 21)]
    middle, slow, forward = warm_rows([*samples, {"how": "forward", "ms": 4.0}])
    assert (middle.ours, middle.met, middle.aim_met) == (1.05, True, False)
    assert (slow.ours, forward.ours, forward.met) == (2.0, 4.0, None)


def test_the_table_holds_what_was_measured_in_the_order_of_the_parts() -> None:
    samples = {"revocation": [{"live_at_gateway": 1, "controller_ms": 1.0, "cut_ms": [5.0]}], "opening": [{"ms": 5.0}]}
    assert [row.name for row in rows_of(samples)][::2] == [
        "knock to first byte", "revoke to cut, 1 live tunnels, p99", "revoke acknowledged"
    ]  # fmt: skip


def test_every_part_has_a_deadline_in_every_budget() -> None:
    names = {name for part in PARTS for name in (part.name, *((part.peer[0],) if part.peer else ()))}
    assert set(QUICK.deadlines) == set(FULL.deadlines) == names


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
