import asyncio
import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from console.errors import CommandError, ExitCode
from console.run import BROKEN_PIPE, INTERRUPTED, execute, explain


class Sentence(Exception):  # noqa: N818 - what a package of ours would raise
    fix = "turn it off and on again"


class Coded(Sentence):
    code = ExitCode.DENIED


async def in_a_task_group() -> None:
    async def fails() -> None:
        raise CommandError("the gateway is silent", "check the knock address", ExitCode.UNREACHABLE)

    async with asyncio.TaskGroup() as group:
        group.create_task(fails())


def failing(kind: str) -> object:  # noqa: C901, PLR0912 - a table of ends
    match kind:
        case "command":
            raise CommandError("no such user", "see gloam-controller user list", ExitCode.FAILED)
        case "denied":
            raise CommandError("denied by policy night", "ask again at 08:00", ExitCode.DENIED)
        case "hostile":
            raise CommandError("gateway \x1b[2Jedge\nsays no", "none\u202e")
        case "sentence":
            raise Sentence("the key is damaged")
        case "coded":
            raise Coded("not today")
        case "group":
            asyncio.run(in_a_task_group())
        case "bug":
            raise ZeroDivisionError("secret: hunter2")
        case "bugs":
            raise BaseExceptionGroup("two", [ZeroDivisionError(), KeyError()])
        case "interrupt":
            raise KeyboardInterrupt
        case "interrupt at a prompt":
            try:
                raise KeyboardInterrupt  # noqa: TRY301 - as a prompt of typer's does
            except KeyboardInterrupt:
                raise typer.Abort from None
        case "pipe":
            raise BrokenPipeError(errno.EPIPE, "Broken pipe", "tunnel")
        case "epipe":
            raise OSError(errno.EPIPE, "Broken pipe")
        case "file":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/state/x")
        case "connection":
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        case "odd os error":
            raise OSError("no number")
        case "memory":
            raise MemoryError
        case "exit":
            raise typer.Exit(4)
        case "sys.exit":
            sys.exit(3)
        case "sys.exit nothing":
            sys.exit()
        case "sys.exit text":
            sys.exit("text")
        case "confirm":
            typer.confirm("go on?", abort=True)
        case "abort":
            raise typer.Abort
        case "number":
            return 4
    return None


app = typer.Typer()


@app.command()
def fail(kind: str, *, json: bool = False) -> object:
    return failing(kind)


@app.command()
def count(number: int) -> None:
    typer.echo(number)


def outcome(*arguments: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    stderr = io.StringIO()
    code = execute(app, "gloam", arguments, environ=environ or {}, stderr=stderr)
    return code, stderr.getvalue()


@pytest.fixture(autouse=True)
def _own_log_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.mark.parametrize(
    ("kind", "code", "line"),
    [
        ("none", 0, ""),
        ("command", 1, "gloam: no such user; see gloam-controller user list\n"),
        ("denied", 4, "gloam: denied by policy night; ask again at 08:00\n"),
        ("hostile", 1, "gloam: gateway \\x1b[2Jedge\\nsays no; none\\u202e\n"),
        ("sentence", 1, "gloam: the key is damaged; turn it off and on again\n"),
        ("coded", 4, "gloam: not today; turn it off and on again\n"),
        ("group", 3, "gloam: the gateway is silent; check the knock address\n"),
        ("interrupt", INTERRUPTED, ""),
        ("interrupt at a prompt", INTERRUPTED, ""),
        ("pipe", 1, "gloam: tunnel: Broken pipe; check that path or address, and what this user may do there\n"),
        ("epipe", 1, "gloam: Broken pipe; check that path or address, and what this user may do there\n"),
        (
            "file",
            1,
            "gloam: /state/x: No such file or directory; check that path or address, and what this user may do there\n",
        ),
        (
            "connection",
            1,
            "gloam: Connection refused; check that path or address, and what this user may do there\n",
        ),
        ("exit", 4, ""),
        ("sys.exit", 3, ""),
        ("sys.exit nothing", 0, ""),
        ("sys.exit text", 1, ""),
        ("abort", 1, "gloam: stopped, nothing was changed; run it again and agree to go on\n"),
        ("number", 4, ""),
    ],
)
def test_every_end_has_its_code_and_its_line(kind: str, code: int, line: str) -> None:
    assert outcome("fail", kind) == (code, line)


@pytest.mark.parametrize("kind", ["bug", "bugs", "odd os error", "memory"])
def test_what_nobody_foresaw_is_one_line_and_a_private_log(tmp_path: Path, kind: str) -> None:
    code, text = outcome("fail", kind)
    assert code == 1
    assert text.startswith("gloam: internal error (")
    assert text.count("\n") == 1
    assert "Traceback" not in text
    assert "hunter2" not in text
    log = Path(text.split("report it with ")[1].strip())
    assert log.is_relative_to(tmp_path)
    assert log.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in log.read_text() or kind == "bugs"


def test_a_log_that_cannot_be_written_changes_only_the_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    code, text = outcome("fail", "bug")
    assert (code, text) == (
        1,
        "gloam: internal error (ZeroDivisionError); report it with the lines that GLOAM_DEBUG=1 shows\n",
    )


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_traceback_is_for_those_who_ask(value: str, *, shown: bool) -> None:
    code, text = outcome("fail", "bug", environ={"GLOAM_DEBUG": value})
    assert code == 1
    assert ("Traceback" in text) is shown
    assert text.splitlines()[-1].startswith("gloam: internal error (ZeroDivisionError)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["unknown"], "no such command 'unknown'"),
        (["count"], "missing argument"),
        (["count", "x"], "invalid value for"),
        (["count", "--fast", "1"], "no such option: --fast"),
        (["count", "1", "\x1b[2J"], r"\x1b[2J"),
        ([], "missing command"),
    ],
)
def test_wrong_usage_is_one_line_that_names_the_help(arguments: list[str], words: str) -> None:
    code, text = outcome(*arguments)
    assert code == 2
    assert words in text
    assert text.startswith("gloam: ")
    assert text.endswith("--help\n")
    assert text.count("\n") == 1


def test_a_command_without_arguments_may_show_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    helpful = typer.Typer(no_args_is_help=True)
    helpful.command()(count)
    helpful.command()(fail)
    stderr = io.StringIO()
    assert execute(helpful, "gloam", [], environ={}, stderr=stderr) == 2
    assert stderr.getvalue() == "gloam: no command was given; see gloam --help\n"


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome("--help") == (0, "")
    assert "fail" in capsys.readouterr().out


def test_with_json_the_error_is_json() -> None:
    code, text = outcome("fail", "hostile", "--json")
    assert code == 1
    assert json.loads(text) == {"error": "gateway \x1b[2Jedge\nsays no", "fix": "none\u202e", "exit": 1}
    assert text.isascii()
    code, text = outcome("count", "x", "--json")
    assert json.loads(text)["exit"] == code == 2
    _code, text = outcome("fail", "--", "--json")
    assert text == ""
    _code, text = outcome("count", "--", "--json")
    assert text.startswith("gloam: invalid value")


def test_a_prompt_that_nobody_answers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    code, text = outcome("fail", "confirm")
    assert (code, text) == (
        1,
        "gloam: the input ended where an answer was needed; give it as an option, or use a terminal\n",
    )


def test_a_refusal_at_a_prompt_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    code, text = outcome("fail", "confirm")
    assert code == 1
    assert text.startswith("gloam: stopped")


@pytest.mark.parametrize("kind", ["pipe", "epipe"])
def test_a_pipe_whose_reader_went_away_needs_no_words(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert outcome("fail", kind) == (BROKEN_PIPE, "")
        monkeypatch.undo()


def test_a_closed_stderr_hides_nothing_but_the_line() -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    assert execute(app, "gloam", ["fail", "denied"], environ={}, stderr=Closed()) == 4
    assert execute(app, "gloam", ["fail", "bug"], environ={"GLOAM_DEBUG": "1"}, stderr=Closed()) == 1


def test_errors_that_carry_no_fix_are_unforeseen() -> None:
    class Odd(Exception):  # noqa: N818 - an attribute by chance
        fix = 7

    assert explain(Odd(), "gloam") is None
    assert explain(ValueError(), "gloam") is None


PROGRAM = """
import typer
from console.run import run
app = typer.Typer(rich_markup_mode=None)
@app.command()
def shout(lines: int = 1, *, wait: bool = False):
    for _ in range(lines):
        print("grün " * 20)
    if wait:
        print("ready", flush=True)
        import signal
        signal.pause()
@app.command()
def say(how: str):
    from console.output import Output
    output = Output(json=how == "json")
    output.show([how], lambda _console: None)
    output.table("Table", ["A"], [["x"]] if how == "table" else [])
    output.say(how)
@app.command()
def bug():
    raise RuntimeError("\\u202e")
run(app, "gloam")
"""


def program(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    environ = {**os.environ, **options.pop("env", {})}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environ,
        **options,
    )


def test_a_reader_that_goes_away_hears_no_complaint() -> None:
    with program("shout", "--lines", "5000") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == BROKEN_PIPE


@pytest.mark.parametrize("arguments", [("shout",), ("say", "sentence"), ("say", "table"), ("say", "json"), ("--help",)])
def test_a_reader_that_went_away_before_the_first_word_hears_no_complaint(arguments: tuple[str, ...]) -> None:
    """Whichever way it is printed: the console of our tables flushes by itself, and had its own idea of what to do."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=stdout, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (BROKEN_PIPE, b"")


def test_interrupting_is_quiet() -> None:
    with program("shout", "--wait") as process:
        assert process.stdout is not None
        assert b"gr" in process.stdout.readline()
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (INTERRUPTED, b"")


def test_a_terminal_without_utf8_gets_escapes() -> None:
    with program("shout", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out.startswith(b"gr\\xfcn")


def test_no_traceback_leaves_the_process(tmp_path: Path) -> None:
    with program("bug", env={"XDG_STATE_HOME": str(tmp_path)}) as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"gloam: internal error (RuntimeError); report it with ")
    assert err.count(b"\n") == 1
