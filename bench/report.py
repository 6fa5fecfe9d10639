"""The result, for people and for machines.

`latest.json` holds what the table shows and every raw sample behind it: any other statistic can be made of them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.figures import Row, shown

MET = {True: ("yes", "green"), False: ("NO", "bold red"), None: ("-", "dim")}


def table(rows: Sequence[Row]) -> Table:
    """Name, ours, peer, ratio, bar, met, aim, met."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    made.add_column("name")
    for column in ("ours", "peer", "ratio", "bar"):
        made.add_column(column, justify="right")
    made.add_column("met")
    made.add_column("aim", justify="right")
    made.add_column("met")
    for row in rows:
        peer = f"{shown(row.peer)} {row.peer_name}" if row.peer is not None else "-"
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        bar, aim = (each.text() if each else "-" for each in (row.bar, row.aim))
        figure = f"{shown(row.ours)} {row.unit}"
        made.add_row(row.name, figure, peer, ratio, bar, Text(*MET[row.met]), aim, Text(*MET[row.aim_met]))
    return made


def notes(rows: Sequence[Row], machine: Mapping[str, Any], problems: Sequence[str]) -> list[str]:
    """The lines under the table."""
    lines = list(dict.fromkeys(f"{row.name}: {row.note}" for row in rows if row.note))
    lines += [
        f"{name} is not installed: its rows are missing"
        for name, version in machine["peers"].items()
        if version is None
    ]
    lines += [f"INCOMPLETE: {each}" for each in problems]
    versions = "; ".join(f"{name} {version}" for name, version in machine["peers"].items() if version)
    load = ", ".join(f"{each:g}" for each in machine["load_at_start"])
    lines.append(
        f"{machine['cores']} cores, {machine['cpu']}, {machine['kernel']}, {machine['python']}, "
        f"uvloop {machine['uvloop']}, OpenSSL {machine['openssl']}{f'; {versions}' if versions else ''}; "
        f"load at the start {load}"
    )
    return lines


def print_report(console: Console, rows: Sequence[Row], machine: Mapping[str, Any], problems: Sequence[str]) -> None:
    """The table and its notes."""
    console.print(table(rows))
    for line in notes(rows, machine, problems):
        console.print(line, style="dim" if not line.startswith("INCOMPLETE") else "red", markup=False, highlight=False)


def keep(path: Path, document: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write `document` and the rows to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {**document, "rows": [row.document() for row in rows]}
    path.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
