"""One target under atheris, in a process of its own: `python -m tests.fuzz.engine TARGET [libFuzzer's options] CORPUS`.

What is imported with the target is instrumented: our packages, and h11, which parses for us. The options and the exit
code are libFuzzer's: 0 nothing found, else the last lines say what, and the input is where `-artifact_prefix` says.
"""

import hashlib
import sys
from collections.abc import Callable
from random import Random

import atheris

from tests.fuzz.target import Target, load

INSTRUMENTED = ["certs", "console", "h11", "spa", "wire"]
MOST_PLACES = 4096
"""Names a target may report with `reached`; some hold text of the input, and coverage must not grow without end."""


class Places:
    """Makes coverage out of names: each new one gets an instrumented function of its own, and is told by calling it."""

    def __init__(self) -> None:
        self._marks: dict[bytes, Callable[[], None]] = {}

    def reached(self, name: str) -> None:
        key = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]
        mark = self._marks.get(key)
        if mark is None:
            if len(self._marks) >= MOST_PLACES:
                return
            code = compile("def mark(): pass", f"<place {key.hex()}>", "exec")
            found: dict[str, Callable[[], None]] = {}
            exec(code, found)  # noqa: S102 - three words of our own: a function whose coverage counter is new
            mark = self._marks[key] = atheris.instrument_func(found["mark"])
        mark()


def mutator(target: Target) -> Callable[[bytes, int, int], bytes]:
    """Half of the changes are the target's own, the other half the fuzzer's."""

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if target.mutate is not None and random.random() < 0.5:
            return target.mutate(data, random)[:longest]
        return bytes(atheris.Mutate(data, longest))

    return mutate


def main() -> None:
    name, *options = sys.argv[1:]
    atheris.enabled_hooks.add("str")  # startswith and endswith give hints like comparisons do
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(name)
    check, places = atheris.instrument_func(target.check), Places()
    own = {} if target.mutate is None else {"custom_mutator": mutator(target)}
    atheris.Setup([sys.argv[0], *options], lambda data: check(data, places.reached), **own)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
