import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from console.errors import CommandError, ExitCode
from console.piped import LONGEST_LINE, MOST_TEXT, piped_line, piped_text


def pipe(monkeypatch: pytest.MonkeyPatch, given: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))


def test_text_and_lines_are_read_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, "første\r\nsecond\n".encode())
    assert (piped_line(), piped_line(), piped_line(), piped_text()) == ("første", "second", "", "")


def test_no_more_is_read_than_any_command_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe(monkeypatch, b"x" * (2 * MOST_TEXT))
    assert (len(piped_line()), len(piped_text())) == (LONGEST_LINE, MOST_TEXT)


@pytest.mark.parametrize("read", [piped_line, piped_text])
def test_what_is_no_text_is_said_to_be_none(monkeypatch: pytest.MonkeyPatch, read: object) -> None:
    assert callable(read)
    pipe(monkeypatch, b"\xff\xfe\x00")
    with pytest.raises(CommandError, match="not UTF-8 text") as refused:
        read()
    assert refused.value.code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("module", "command"), [("gateway.cli", "join"), ("client.cli", "enrol")], ids=["gateway", "client"]
)
def test_noise_is_no_invite(module: str, command: str, tmp_path: Path) -> None:
    """Piped into both commands that take an invite: one line, and nothing written."""
    done = subprocess.run(
        [sys.executable, "-m", module, command, "-", "--state", str(tmp_path / "new")],
        input=b"\xff" * 2_000_000,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONUTF8": "0", "LC_ALL": "en_US.UTF-8", "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert b"not UTF-8 text" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not list(tmp_path.iterdir())
