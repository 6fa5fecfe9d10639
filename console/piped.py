"""What is piped into a command: an invite, a password.

Law: it is bounded and it is text, or the command says so; standard input may be anything, and endless.
"""

import sys
from typing import Final

from console.errors import CommandError, ExitCode

MOST_TEXT: Final = 1 << 16
LONGEST_LINE: Final = 4_096


def piped_text() -> str:
    """Standard input, as much of it as any command takes. Raises CommandError."""
    try:
        return sys.stdin.read(MOST_TEXT)
    except UnicodeDecodeError as error:
        raise _no_text() from error


def piped_line() -> str:
    """The next line of standard input, without its end. Raises CommandError."""
    try:
        return sys.stdin.readline(LONGEST_LINE).rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _no_text() from error


def _no_text() -> CommandError:
    return CommandError("standard input is not UTF-8 text", "check what is piped in", ExitCode.USAGE)
