"""Runs the fuzz targets: `make fuzz`, or `python -m tests.fuzz [--seconds N] [--jobs N] [TARGET…]`.

Each target has its own process, time and memory, and a corpus in .fuzz/ that the next run begins with. First a target
with a fault in it has to be found out, or "nothing found" would mean nothing. Exit code 1 if anything was found.
`--try TARGET FILE` feeds one input to a target, without the fuzzer, to see what it breaks.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from tests.fuzz.findings import failure, minimised
from tests.fuzz.target import NAMES, Target, load

WORK: Final = Path(".fuzz")
CANARY: Final = "canary"
CANARY_SECONDS: Final = 60
MEMORY_MB: Final = 1024
ONE_INPUT_SECONDS: Final = 10
SPARE_SECONDS: Final = 120
"""For starting and for reading a corpus; a target that takes longer is ended and counts as a finding."""
_RUNS: Final = re.compile(rb"stat::number_of_executed_units:\s*(\d+)")
_COVERAGE: Final = re.compile(rb"cov: (\d+)")


@dataclass(frozen=True)
class Outcome:
    """What came of one target: `findings` are the files libFuzzer left; `said` is the end of what it printed."""

    name: str
    seconds: float
    runs: int
    coverage: int
    findings: tuple[Path, ...]
    failed: bool
    said: str


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(NAMES)}; all if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at the same time")
    parser.add_argument(
        "--try", dest="attempt", nargs=2, metavar=("TARGET", "FILE"), help="one input, without the fuzzer"
    )
    chosen = parser.parse_args()
    if chosen.attempt:
        load(chosen.attempt[0]).check(Path(chosen.attempt[1]).read_bytes(), print)
        return 0
    if unknown := set(chosen.targets) - set(NAMES):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if chosen.seconds < 1 or chosen.jobs < 1:
        parser.error("--seconds and --jobs are at least 1")
    if not fuzz(CANARY, CANARY_SECONDS).findings:
        print("the fuzzer did not find the fault in tests/fuzz/canary.py: it sees no coverage, so it tells nothing")
        return 1
    with ThreadPoolExecutor(chosen.jobs) as pool:
        outcomes = list(pool.map(lambda name: told(fuzz(name, chosen.seconds)), chosen.targets or NAMES))
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def fuzz(name: str, seconds: int) -> Outcome:
    """Runs one target for so long."""
    target = load(name)
    corpus, artifacts, dictionary = WORK / name / "corpus", WORK / name / "findings", WORK / name / "words"
    for directory in (corpus, artifacts):
        directory.mkdir(parents=True, exist_ok=True)
    if name == CANARY:  # found out anew each time
        for path in (*corpus.iterdir(), *artifacts.iterdir()):
            path.unlink()
    for seed in target.seeds():
        (corpus / hashlib.sha1(seed, usedforsecurity=False).hexdigest()).write_bytes(seed)
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
    command = [sys.executable, "-m", "tests.fuzz.engine", name, *options(target, seconds, artifacts, dictionary)]
    before, began = set(artifacts.iterdir()), monotonic()
    try:
        done = subprocess.run(
            [*command, str(corpus)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=seconds + SPARE_SECONDS,
        )
        output, code = done.stdout, done.returncode
    except subprocess.TimeoutExpired as late:
        output, code = (late.stdout or b"") + b"\nended: it did not stop by itself", -1
    (WORK / name / "log").write_bytes(output)
    runs, coverage = _RUNS.search(output), _COVERAGE.findall(output)
    return Outcome(
        name,
        monotonic() - began,
        int(runs[1]) if runs else 0,
        int(coverage[-1]) if coverage else 0,
        tuple(sorted(set(artifacts.iterdir()) - before)),
        failed=code != 0 or not runs,
        said=output.decode(errors="replace")[-3000:],
    )


def options(target: Target, seconds: int, artifacts: Path, dictionary: Path) -> Iterator[str]:
    """libFuzzer's: bounds in time and memory, and where things go."""
    yield f"-max_total_time={seconds}"
    yield f"-max_len={target.longest}"
    yield f"-rss_limit_mb={MEMORY_MB}"
    yield f"-timeout={ONE_INPUT_SECONDS}"
    yield f"-artifact_prefix={artifacts}/"
    if target.words:  # an empty dictionary is an error
        yield f"-dict={dictionary}"
    yield "-print_final_stats=1"


def told(outcome: Outcome) -> Outcome:
    """Says what came of a target: one line if nothing was found, and otherwise what to do."""
    rate = outcome.runs / max(outcome.seconds, 1)
    print(
        f"{outcome.name:18} {outcome.seconds:5.0f} s {outcome.runs:9} inputs {rate:7.0f}/s {outcome.coverage:5} places "
        f"{'FOUND SOMETHING' if outcome.failed else 'nothing found'}",
        flush=True,
    )
    if not outcome.failed:
        return outcome
    print(outcome.said)
    target = load(outcome.name)
    for path in outcome.findings:
        data = path.read_bytes()
        what = "" if path.name.startswith(("timeout", "oom", "slow")) else failure(target, data)
        if what:
            data = minimised(lambda candidate, what=what: failure(target, candidate) == what, data)
        print(
            f"{path}: {what or 'see above'}\n  python -m tests.fuzz --try {outcome.name} {path}\n"
            f'  for tests/vectors/fuzz.json, once it is repaired: "{outcome.name}": {{"…": "{data.hex()}"}}'
        )
    return outcome


if __name__ == "__main__":
    sys.exit(main())
