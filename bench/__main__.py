"""`python -m bench [--quick] [--only PART…] [--cloak NAME] [--out FILE] [--strict]`, or `--table`, or `--publish`.

Exit code 0: everything was measured. 1: something could not be (the report says what). With `--strict` also 1 where a
bar was missed; without it a noisy machine fails nobody's build.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from bench.budget import FULL, QUICK
from bench.descriptors import allow_many
from bench.loop import loop_factory
from bench.machine import describe
from bench.parts import PARTS, rows_of
from bench.publish import markdown, publish, published
from bench.report import keep, print_report
from bench.run import Run

WIDTH = 150
ROOT = Path(__file__).parents[1]
LATEST = ROOT / "bench" / "results" / "latest.json"


def _arguments() -> argparse.Namespace:
    about = "How fast gloam is, beside HAProxy, stunnel and fwknopd."
    parser = argparse.ArgumentParser(prog="python -m bench", description=about)
    names = [part.name for part in PARTS]
    parser.add_argument("--quick", action="store_true", help="three minutes at most, instead of ten")
    parser.add_argument("--only", nargs="+", choices=names, help="measure these parts alone, and keep no result")
    parser.add_argument("--cloak", default="auto", help="auto, or a cloak's name")
    parser.add_argument(
        "--out", type=Path, help="where the samples go (bench/results/latest.json, unless --only is given)"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--table", action="store_true", help="print the last result as Markdown; measure nothing")
    shown.add_argument("--publish", action="store_true", help="write it into README.md and docs/; measure nothing")
    return parser.parse_args()


def _show(path: Path, *, written: bool) -> int:
    """Print or write the documents of a kept result."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = published(document)
    except (OSError, ValueError, KeyError) as error:
        print(f"{path} is no result of this version ({error!r}); make one with: make bench", file=sys.stderr)
        return 1
    if written:
        print(*publish(document, ROOT), sep="\n")
    else:
        print(markdown(rows), end="")
    return 0


def main() -> int:
    """Measure, print, keep."""
    arguments = _arguments()
    if arguments.table or arguments.publish:
        return _show(arguments.out or LATEST, written=arguments.publish)
    allow_many()
    budget = QUICK if arguments.quick else FULL
    parts = frozenset(arguments.only or (part.name for part in PARTS))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    machine, began = describe(), datetime.now(UTC)
    run = Run(console, budget, parts, arguments.cloak)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run.everything())
    rows = rows_of(run.samples)
    print_report(console, rows, machine, run.problems)
    document = {
        "machine": machine,
        "began": began.isoformat(timespec="seconds"),
        "budget": {"name": "quick" if arguments.quick else "full", **asdict(budget)},
        "cloak": run.stage_cloak,
        "seconds": {name: round(value, 1) for name, value in run.seconds.items()},
        "problems": run.problems,
        "samples": run.samples,
    }
    out = arguments.out or (None if arguments.only else LATEST)
    if out is not None:
        keep(out, document, rows)
        console.print(f"samples: {out}", style="dim", highlight=False)
    missed = arguments.strict and any(row.met is False for row in rows)
    return 1 if run.problems or missed else 0


if __name__ == "__main__":
    sys.exit(main())
