"""How a command says that it failed: what is wrong, what to do, and an exit code.

Law: every error that reaches a person has a fix. An exception of any package takes part by carrying a ``fix``
string; nothing has to be registered here.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means, everywhere."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    DENIED = 4


class CommandError(Exception):
    """A command cannot go on. Shown as one line: ``gloam: WHAT; FIX``."""

    def __init__(self, what: str, fix: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix
        self.code = code
