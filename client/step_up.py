"""Step-up on demand: a tunnel that wants a fresher or stronger proof of who you are asks for it, then is tried again.

Laws:

1. Only what the person can prove is asked for, at the terminal they sit at, with the conversation of
   `gloam login --step-up`. Where nobody sits, the denial stands as it is.
2. The tunnel's bytes are never read for an answer, and no question goes among them: meanwhile all three standard
   streams are the terminal's.
3. It is tried once more, once: a denial after that stands.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, TextIO

from client.ask import Denied
from client.login import login
from client.proofs import Asking
from client.state import ClientState
from console.output import Output
from console.text import visible

TERMINAL: Final = Path("/dev/tty")
PROVABLE: Final[Mapping[str, bool]] = {"mfa_stale": False, "method_missing": False, "passkey_missing": True}
"""The codes of decisions that a person can do something about at once, and whether it takes a passkey."""


def with_step_up(state: ClientState, work: Callable[[], None], *, interactive: bool) -> None:
    """Does `work`; where a decision wants a proof, gets it from the person and does it again. Raises CommandError."""
    try:
        return work()
    except Denied as denied:
        passkey = PROVABLE.get(denied.reason)
        if passkey is None or not interactive:
            raise
        with _at_terminal() as there:
            if not there:
                raise
            sys.stderr.write(f"{visible(denied.what)}\n")
            login(state, Asking(state.profile().user, interactive=True, passkey=passkey), Output(), step_up=True)
    return work()


@contextlib.contextmanager
def _at_terminal() -> Iterator[bool]:
    """The standard streams as the terminal's for a while; false where there is none, or this is a job behind it."""
    with contextlib.ExitStack() as stack:
        try:
            typed = stack.enter_context(TERMINAL.open(encoding="utf-8", errors="replace"))
            shown = stack.enter_context(TERMINAL.open("w", encoding="utf-8", errors="backslashreplace"))
            there = os.tcgetpgrp(typed.fileno()) == os.getpgrp()  # who is not in front would be stopped by a read
        except OSError:
            there = False
        if there:
            before = sys.stdin, sys.stdout, sys.stderr
            stack.callback(_streams, *before)
            _streams(typed, shown, shown)
        yield there


def _streams(stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
    sys.stdin, sys.stdout, sys.stderr = stdin, stdout, stderr
