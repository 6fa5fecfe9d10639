"""What a fuzz target is, and the list of them.

1. A target is a law about bytes: `check` returns for every input, or raises whatever breaks the law. It expects no
   exception but those the code under it documents.
2. `check` is a function of its input alone: no clock, no randomness, no file, no state kept between two inputs.
3. A target takes what a stranger could send, and also what only a key holder could (sealed, checksummed), for a fuzzer
   finds no key by itself.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Final

Reached = Callable[[str], None]
"""Tells the fuzzer of a place in code it cannot see into (pydantic's is compiled): each new name is new coverage."""


@dataclass(frozen=True)
class Target:
    """`seeds` are where mutation begins, `words` what it may insert; `longest` is the most bytes an input has."""

    check: Callable[[bytes, Reached], None]
    seeds: Callable[[], Iterable[bytes]]
    longest: int
    words: tuple[bytes, ...] = ()
    mutate: Callable[[bytes, Random], bytes] | None = None  # besides the fuzzer's own changes of bytes


NAMES: Final = (
    "address",
    "admission",
    "capsule",
    "connect_answer",
    "connect_request",
    "invite",
    "knock",
    "link_messages",
    "names",
    "passkey",
    "session_messages",
)


def load(name: str) -> Target:
    """The target in the module of that name, imported now: under the fuzzer, imports are where code is instrumented."""
    target: Target = importlib.import_module(f"tests.fuzz.{name}").TARGET
    return target


def pieces(data: bytes, cuts: bytes) -> list[bytes]:
    """`data` in order, cut into pieces whose lengths `cuts` gives (over again), or in one piece if they are all 0.

    Long data is cut into 64 pieces at most: byte by byte it would cost a hundred inputs' time.
    """
    lengths = [max(cut, -(-len(data) // 64)) for cut in cuts if cut] or [max(1, len(data))]
    whole, at = [], 0
    while at < len(data):
        length = lengths[len(whole) % len(lengths)]
        whole.append(data[at : at + length])
        at += length
    return whole
