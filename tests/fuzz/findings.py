"""Findings: inputs that broke a law, made small, and kept in tests/vectors/fuzz.json to be tried for ever."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.target import Target

VECTORS: Final = Path(__file__).parent.parent / "vectors" / "fuzz.json"
MOST_TRIES: Final = 5_000


def kept() -> Iterator[tuple[str, str, bytes]]:
    """Target, name and input of each finding there ever was."""
    for target, findings in json.loads(VECTORS.read_text()).items():
        for name, data in findings.items():
            yield target, name, bytes.fromhex(data)


def failure(target: Target, data: bytes) -> str:
    """What `data` breaks: the type of what was raised and where, "" if no law is broken."""
    try:
        target.check(data, lambda _name: None)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        return f"{type(error).__name__} at {trace and trace.tb_frame.f_code.co_qualname}:{trace and trace.tb_lineno}"
    return ""


def minimised(broken: Callable[[bytes], bool], data: bytes) -> bytes:
    """A shorter input that is still `broken`: pieces are left out, large ones first, then bytes become plain."""
    left = MOST_TRIES
    size = len(data) // 2
    while size and left > 0:
        at, shorter = 0, False
        while at < len(data) and left > 0:
            candidate = data[:at] + data[at + size :]
            left -= 1
            if broken(candidate):
                data, shorter = candidate, True
            else:
                at += size
        size = min(size, len(data)) if shorter else size // 2
    for at in range(len(data)):
        candidate = data[:at] + b"0" + data[at + 1 :]
        if left > 0 and data[at] != ord("0"):
            left -= 1
            data = candidate if broken(candidate) else data
    return data
