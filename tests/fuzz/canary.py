"""A target with a fault in it, behind comparisons that chance alone does not pass: a fuzzer that misses it is blind."""

from collections.abc import Iterator
from typing import Final

from tests.fuzz.target import Reached, Target


class Fault(Exception):  # noqa: N818 - what it is
    """What is to be found."""


def check(data: bytes, reached: Reached) -> None:
    if data[:4] == b"kn\x00k" and len(data) > 8:
        reached("knock")
        if data[4] > data[5] > data[6]:
            reached("falling")
            if data[7:9] == b"\xca\xfe":
                raise Fault


def seeds() -> Iterator[bytes]:
    yield b"nothing like it"


TARGET: Final = Target(check, seeds, longest=32)
