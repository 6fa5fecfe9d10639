"""From a kept result to documents, and the picture among them."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bench.chart import LEFT, LONGEST, SCALE, chart
from bench.figures import Bar, Row, Sense
from bench.publish import BEGIN, END, PAGE, PICTURE, README, markdown, publish

SVG = "{http://www.w3.org/2000/svg}"
AT_MOST = Bar(Sense.AT_MOST, 0.95, of_peer=True)
ROWS = [
    Row("CPU per GB", "CPU s/GB", 0.8, 1.0, "HAProxy", AT_MOST, Bar(Sense.AT_MOST, 0.75, of_peer=True)),
    Row("CPU per GB", "CPU s/GB", 0.8, 4.0, "stunnel"),
    Row("memory", "KiB", 40, 20, "HAProxy", Bar(Sense.AT_MOST, 60)),
    Row("opening <fast>", "ms", 20.0, bar=Bar(Sense.AT_MOST, 25), aim=Bar(Sense.AT_MOST, 5)),
    Row("knocks", "/s", 20_000, 100, "fwknopd", Bar(Sense.AT_LEAST, 15_000), Bar(Sense.AT_LEAST, 30_000)),
    Row("workers", "x", 1.6, 1.8, "HAProxy", aim=Bar(Sense.AT_LEAST, 1.5)),
    Row("slow", "ms", 100.0),
]
DOCUMENT: dict[str, Any] = {
    "machine": {
        "cores": 2, "cpu": "a CPU", "kernel": "Linux 6", "python": "CPython 3.11", "uvloop": None, "openssl": "4.0",
        "load_at_start": [0.5], "peers": {"HAProxy": "2.6, OpenSSL 3.0", "stunnel": None},
    },
    "began": "2026-01-02T03:04:05+00:00",
    "budget": {"name": "quick"},
    "problems": ["many: not done"],
    "samples": {"opening": [{"ms": 5.0}]},
}  # fmt: skip


def test_the_table_says_what_was_reached_and_what_was_missed() -> None:
    lines = markdown(ROWS).splitlines()
    assert lines[2] == (
        "| CPU per GB | 0.80 CPU s/GB | HAProxy 1.00 | 0.80 x | ≤ 0.95 x HAProxy: met | ≤ 0.75 x HAProxy: **missed** |"
    )
    assert lines[6] == "| knocks | 20,000 /s | fwknopd 100 | 200 x | ≥ 15,000: met | ≥ 30,000: **missed** |"
    assert lines[8] == "| slow | 100 ms | - | - | - | - |"
    assert markdown([Row("gone", "ms", None, bar=Bar(Sense.AT_MOST, 3))]).endswith(
        "| gone | not measured | - | - | ≤ 3 | - |\n"
    )


def texts(root: ET.Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def test_the_picture_is_well_formed_and_says_every_figure_in_words() -> None:
    root = ET.fromstring(chart(ROWS, "on <this> machine"))  # noqa: S314 - ours
    said = texts(root)
    for words in (
        "CPU per GB", "gloam 0.80 CPU s/GB", "HAProxy 1.00", "→ stunnel 4.00", "memory", "opening <fast>",
        "20.0 ms (≤ 25)", "20,000 /s (≥ 15,000; fwknopd 100)", "on <this> machine",
    ):  # fmt: skip
        assert words in said
    assert not {"slow", "workers"} & set(said)  # nothing to hold them against


def test_lengths_are_multiples_of_the_peer_or_shares_of_the_bar() -> None:
    root = ET.fromstring(chart(ROWS, ""))  # noqa: S314 - ours
    lengths = [float(each.get("width", "")) / SCALE for each in root.iter(f"{SVG}rect") if each.get("class") != "page"]
    assert lengths == pytest.approx([0.8, 1.0, LONGEST, LONGEST, 1.0, 0.8, 0.75])
    marks = [(float(each.get("x1", "")) - LEFT) / SCALE for each in root.iter(f"{SVG}line")]
    assert marks == pytest.approx([0.95, 0.75, 1.0, 0.2, 1.0, 0.5])


def test_nothing_measured_is_a_picture_too() -> None:
    assert texts(ET.fromstring(chart([], "nothing"))) == ["solid line: the bar; dashed line: the aim", "nothing"]  # noqa: S314 - ours


def test_documents_are_written_and_written_again_the_same(tmp_path: Path) -> None:
    (tmp_path / README).write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    for _ in range(2):
        assert publish(DOCUMENT, tmp_path) == [README, PAGE, PICTURE]
        text = (tmp_path / README).read_text(encoding="utf-8")
        assert re.fullmatch(rf"before\n{BEGIN}\n.*\| knock to first byte \|.*{END}\nafter\n", text, re.DOTALL)
        assert "2026-01-02, 2 cores of a CPU, Linux 6, CPython 3.11; HAProxy 2.6." in text
        assert "old" not in text
        assert "first byte, p99" not in text  # README has what has a bar
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    for part in ("first byte, p99", "(figures/bench.svg)", "INCOMPLETE: many: not done", "stunnel is not installed"):
        assert part in page
    assert (tmp_path / PICTURE).read_text(encoding="utf-8").startswith("<svg")


def test_a_readme_without_the_marks_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / README).write_text("nothing here\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no place for the figures"):
        publish(DOCUMENT, tmp_path)
    assert (tmp_path / README).read_text(encoding="utf-8") == "nothing here\n"
