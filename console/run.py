"""Running a command: whatever happens, a person gets one line and a meaningful exit code.

Laws:

1. No traceback reaches a user. An unexpected error says that it is ours, where the details are and how to see them.
2. With ``--json`` the error is one JSON document on stderr: ``{"error": …, "fix": …, "exit": n}``.
3. An error knows its fix or is unexpected; text that came from elsewhere is made visible before it is printed.
"""

import contextlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NoReturn, TextIO

import platformdirs
import typer

from console import start
from console.errors import CommandError, ExitCode
from console.start import INTERRUPTED
from console.text import joined, visible

BROKEN_PIPE: Final = 128 + signal.SIGPIPE
DEBUG_VARIABLE: Final = "GLOAM_DEBUG"


def run(app: typer.Typer, prog: str) -> NoReturn:
    """Runs the command line of this process and exits with its code."""
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 gets escapes, not a crash in the middle of a table.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        start.listen()
        code = execute(app, prog, sys.argv[1:], environ=os.environ, stderr=sys.stderr)
    except KeyboardInterrupt:
        code = INTERRUPTED
    start.hush()
    if code == BROKEN_PIPE:
        # The interpreter flushes stdout as it exits; there must be something left to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_standard_streams() -> None:
    """Gives closed ones to /dev/null: else the next file or socket would become standard output."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def execute(
    app: typer.Typer, prog: str, arguments: Sequence[str], *, environ: Mapping[str, str], stderr: TextIO
) -> int:
    """Runs ``app`` with these arguments and answers the exit code; errors are reported on ``stderr``.

    A command's own integer result is its exit code.
    """
    helpless = False
    try:
        helpless = _names_no_command(app, arguments)
        if helpless:
            arguments = [*arguments, "--help"]
        result = typer.main.get_command(app).main(args=list(arguments), prog_name=prog, standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - law 1
        # Typer exits by itself when it meets EPIPE; what broke is the context of that exit.
        broken = isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError)
        cause = error.__context__ if broken and error.__context__ else error
        quiet = _quiet_status(cause)
        return _report(cause, prog, arguments, environ, stderr) if quiet is None else quiet
    if helpless:
        fix = f"see {' '.join([prog, *arguments])}"
        return _report(CommandError("no command was given", fix, ExitCode.USAGE), prog, arguments, environ, stderr)
    return result if isinstance(result, int) else ExitCode.DONE


def _names_no_command(app: typer.Typer, arguments: Sequence[str]) -> bool:
    """Whether the arguments name a group of commands that shows its help for want of one."""
    command: object = typer.main.get_command(app)
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument)
    return bool(getattr(command, "commands", None)) and bool(getattr(command, "no_args_is_help", False))


def _quiet_status(error: BaseException) -> int | None:
    """The exit status of an end that needs no words, or None."""
    match error:
        case BrokenPipeError() if _reader_gone():
            return BROKEN_PIPE
        case KeyboardInterrupt() | typer.Abort(__context__=KeyboardInterrupt()):
            return INTERRUPTED
        case SystemExit(code=code):
            return code if isinstance(code, int) else ExitCode.FAILED if code else ExitCode.DONE
        case _:
            return None


def _reader_gone() -> bool:
    """Whether whoever read our output went away; a connection that broke inside a command is another matter."""
    poller = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or no file at all
            poller.register(stream.fileno(), select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _descriptor, event in poller.poll(0))


def explain(error: BaseException, prog: str) -> CommandError | None:
    """The error as a person should see it, or None if nobody foresaw it."""
    match error:
        case CommandError():
            return error
        case typer.Abort():
            return _unanswered(error)
        case BaseExceptionGroup():
            # A task group wraps what failed inside it; the first failure that somebody foresaw tells the story.
            return next((found for each in error.exceptions if (found := explain(each, prog))), None)
        case _:
            return _carried(error) or _misused(error, prog) or _system(error)


def _carried(error: BaseException) -> CommandError | None:
    """Errors of every package that carry their fix, and perhaps their exit code."""
    fix, code = getattr(error, "fix", None), getattr(error, "code", None)
    if not isinstance(fix, str) or not fix:
        return None
    return CommandError(str(error), fix, code if isinstance(code, ExitCode) else ExitCode.FAILED)


def _misused(error: BaseException, prog: str) -> CommandError | None:
    """Click's usage errors, whichever copy of click typer carries."""
    message = getattr(error, "format_message", None)
    if not callable(message):
        return None
    command = getattr(getattr(error, "ctx", None), "command_path", None) or prog
    what = str(message()).replace("Value error, ", "").strip().rstrip(".") or "no command was given"
    return CommandError(what[:1].lower() + what[1:], f"see {command} --help", ExitCode.USAGE)


def _system(error: BaseException) -> CommandError | None:
    """What the operating system refused."""
    if not isinstance(error, OSError) or not error.strerror:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return CommandError(f"{where}{error.strerror}", "check that path or address, and what this user may do there")


def _unanswered(error: typer.Abort) -> CommandError:
    if isinstance(error.__context__, EOFError):
        return CommandError("the input ended where an answer was needed", "give it as an option, or use a terminal")
    return CommandError("stopped, nothing was changed", "run it again and agree to go on")


def _report(
    error: BaseException, prog: str, arguments: Sequence[str], environ: Mapping[str, str], stderr: TextIO
) -> int:
    known = explain(error, prog)
    debug = environ.get(DEBUG_VARIABLE, "") not in {"", "0"}
    if known is None:
        what = f"internal error ({type(error).__name__})"
        fix = "report it with the lines above" if debug else f"report it with {_keep(error, prog)}"
        known = CommandError(what, fix)
    if _wants_json(arguments):
        line = json.dumps({"error": known.what, "fix": known.fix, "exit": int(known.code)})
    else:
        line = f"{prog}: {joined(visible(known.what), visible(known.fix))}"
    trace = "".join(traceback.format_exception(error)) if debug else ""
    with contextlib.suppress(OSError):
        stderr.write(f"{trace}{line}\n")
        stderr.flush()
    return int(known.code)


def _keep(error: BaseException, prog: str) -> str:
    """Writes the traceback to the user's log directory, for that user only; answers where it is."""
    path = Path(platformdirs.user_log_path("gloam")) / f"{Path(prog).name}-errors.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"--- {datetime.now(UTC).isoformat()}\n{''.join(traceback.format_exception(error))}")
    except OSError:
        return f"the lines that {DEBUG_VARIABLE}=1 shows"
    return str(path)


def _wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--json`` was asked for, even if the command line could not be understood."""
    options = list(arguments)
    return "--json" in (options[: options.index("--")] if "--" in options else options)
