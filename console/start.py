"""How a console script begins: nothing is loaded yet, and Ctrl-C ends it without a word.

Law: until a command's own code runs there is nothing to tidy up, so an interrupt ends the process at once with 130;
from then on (``console.run``) it is a KeyboardInterrupt, which takes back what was begun.
"""

import importlib
import os
import signal
from typing import Final

INTERRUPTED: Final = 128 + signal.SIGINT


def start(module: str) -> None:
    """Loads the module, which may take a second, and runs its ``main``."""
    hush()
    importlib.import_module(module).main()


def hush() -> None:
    """Ctrl-C ends the process from here on. Where it is ignored (a background job), it stays ignored."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def listen() -> None:
    """Ctrl-C is a KeyboardInterrupt from here on, unless it is ignored."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_number: int, _frame: object) -> None:
    os._exit(INTERRUPTED)
