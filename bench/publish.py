"""From a result to documents: the table in README.md, docs/figures.md and its picture.

`python -m bench --table` prints the table of `results/latest.json`, `--publish` writes the documents; neither measures.
Rows are made anew of the samples, so an old result is shown by the bars of today.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.chart import chart
from bench.figures import Bar, Row, shown
from bench.parts import rows_of
from bench.report import notes

BEGIN = "<!-- figures: python -m bench --publish -->"
END = "<!-- /figures -->"
PICTURE = Path("docs/figures/bench.svg")
PAGE = Path("docs/figures.md")
README = Path("README.md")

PAGE_TEXT = """\
# Figures

Written by `python -m bench --publish` from [bench/results/latest.json](../bench/results/latest.json), a run of
`make bench` ({budget}). [bench/README.md](../bench/README.md) says what is measured, how, and what the numbers do not
say. The machine is shared and noisy: trust the ratios, not the numbers.

![gloam beside HAProxy and stunnel, and its figures beside their bars]({picture})

{table}
{notes}
"""


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    lines = ["| what | gloam | beside | ratio | bar | aim |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        peer = f"{row.peer_name} {shown(row.peer)}" if row.peer is not None else "-"
        ratio = f"{shown(row.ratio)} x" if row.ratio is not None else "-"
        ours = f"{shown(row.ours)} {row.unit}" if row.ours is not None else "not measured"
        verdicts = (_verdict(row, row.bar, row.met), _verdict(row, row.aim, row.aim_met))
        lines.append(f"| {' | '.join((row.name, ours, peer, ratio, *verdicts))} |")
    return "\n".join(lines) + "\n"


def _verdict(row: Row, bar: Bar | None, met: bool | None) -> str:  # noqa: FBT001 - three answers, not a switch
    if bar is None:
        return "-"
    bound = f"{bar.sense} {bar.bound:g} x {row.peer_name}".removesuffix(" x ") if bar.of_peer else bar.text()
    return bound if met is None else f"{bound}: {'met' if met else '**missed**'}"


def published(document: Mapping[str, Any]) -> list[Row]:
    """The rows of a kept result."""
    return rows_of(document["samples"])


def caption(document: Mapping[str, Any]) -> str:
    """Where and when it was measured, in a line."""
    machine = document["machine"]
    peers = ", ".join(f"{name} {version.split(',')[0]}" for name, version in machine["peers"].items() if version)
    day = str(document["began"])[:10]
    return f"{day}, {machine['cores']} cores of {machine['cpu']}, {machine['kernel']}, {machine['python']}; {peers}"


def section(document: Mapping[str, Any]) -> str:
    """What stands between the marks in README.md: the rows that have something to reach."""
    rows = [row for row in published(document) if row.bar or row.aim]
    return f"{BEGIN}\n\n{caption(document)}.\n\n{markdown(rows)}\n{END}"


def page(document: Mapping[str, Any]) -> str:
    """docs/figures.md."""
    rows = published(document)
    said = "\n".join(f"- {line}" for line in notes(rows, document["machine"], document["problems"]))
    budget = document["budget"]["name"]
    return PAGE_TEXT.format(budget=budget, picture=PICTURE.relative_to("docs"), table=markdown(rows), notes=said)


def publish(document: Mapping[str, Any], root: Path) -> list[Path]:
    """Write all three; returns what was written. Raises ValueError if README.md has lost its marks."""
    before, found, rest = (root / README).read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{README} has no place for the figures: it needs the lines {BEGIN} and {END}")
    (root / PICTURE).parent.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (README, before + section(document) + after),
        (PAGE, page(document)),
        (PICTURE, chart(published(document), caption(document))),
    ):
        (root / path).write_text(text, encoding="utf-8")
    return [README, PAGE, PICTURE]
