import io
import json
import re
import sys
from datetime import UTC, date, datetime, timedelta
from enum import Enum, StrEnum
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.control import Control
from rich.panel import Panel
from rich.text import Text

from console.output import Output, counted, plain

HOSTILE = "\x1b[2J\x1b[8mhidden\x1b]0;title\x07\u202e"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Level(Enum):
    HIGH = 3


class Colour(StrEnum):
    RED = "red"


def printed(*, as_json: bool = False, terminal: bool = False) -> tuple[Output, io.StringIO]:
    file = Terminal() if terminal else io.StringIO()
    return Output(json=as_json, file=file), file


def test_a_document_is_one_json_document() -> None:
    output, file = printed(as_json=True)
    document = {
        "id": UUID(int=1),
        "at": datetime(2025, 6, 1, tzinfo=UTC),
        "day": date(2025, 6, 1),
        "for": timedelta(seconds=1.5),
        "path": Path("/state"),
        "source": ip_address("::1"),
        "net": ip_network("10.0.0.0/8"),
        "kind": Colour.RED,
        "level": Level.HIGH,
        "tags": {"b", "a"},
        "name": HOSTILE,
    }
    output.show(document, lambda _console: pytest.fail("machines do not read prose"))
    output.say("nor sentences")
    output.table("nor", ["tables"], [["x"]])
    text = file.getvalue()
    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "at": "2025-06-01T00:00:00+00:00",
        "day": "2025-06-01",
        "for": 1.5,
        "path": "/state",
        "source": "::1",
        "net": "10.0.0.0/8",
        "kind": "red",
        "level": 3,
        "tags": ["a", "b"],
        "name": HOSTILE,
    }


def test_what_is_not_for_printing_is_refused() -> None:
    output, file = printed(as_json=True)
    for value in (b"bytes", object()):
        with pytest.raises(TypeError, match="is not for printing"):
            output.show({"key": value})
        with pytest.raises(TypeError):
            plain(value)
    assert file.getvalue() == ""


def test_a_stream_is_one_document_a_line_and_flushed() -> None:
    class Flushed(io.StringIO):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    file = Flushed()
    output = Output(json=True, file=file)
    output.row({"n": 1, "text": "a\nb"})
    output.row({"n": 2})
    assert [json.loads(line)["n"] for line in file.getvalue().splitlines()] == [1, 2]
    assert file.flushes == 2


def test_people_read_sentences() -> None:
    output, file = printed()
    output.say("you may reach [bold]wiki[/bold] :smile:")
    output.row({"n": 1}, "first")
    output.row({"n": 2, "who": None})
    output.show({"user": "anna", "groups": ["a", "b"], "mfa": True})
    output.show([{"n": 1}, "two"])
    output.show({}, lambda console: console.print("by hand"))
    assert file.getvalue().splitlines() == [
        "you may reach [bold]wiki[/bold] :smile:",
        "first",
        "n: 2  who: -",
        "user: anna",
        "groups: a, b",
        "mfa: yes",
        "n: 1",
        "two",
        "by hand",
    ]


def test_tables_show_values_plainly() -> None:
    output, file = printed()
    rows = [
        ["anna", None, True, datetime(2025, 6, 1, 12, 30, tzinfo=UTC), {"b", "a"}],
        ["bob", 7, False, datetime(2025, 6, 1), ()],  # noqa: DTZ001 - a naive one is shown as it is
    ]
    output.table("users", ["name", "count", "mfa", "since", "groups"], rows)
    assert [line.split() for line in file.getvalue().splitlines()] == [
        ["users"],
        ["name", "count", "mfa", "since", "groups"],
        ["anna", "-", "yes", "2025-06-01", "12:30:00", "UTC", "a,", "b"],
        ["bob", "7", "no", "2025-06-01", "00:00:00", "-"],
    ]


def test_what_is_no_terminal_gets_whole_lines_without_colour() -> None:
    output, file = printed()
    output.console.print("x" * 1000, style="bold red")
    output.table("t", ["a", "b"], [["y" * 500, "z" * 500]])
    assert "x" * 1000 in file.getvalue()
    assert "y" * 500 + " " in file.getvalue()
    assert "\x1b" not in file.getvalue()
    assert "…" not in file.getvalue()


def escapes_of(text: str) -> str:
    """What is left of the terminal's own colour codes, which rich may write, once those are taken away."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def hostile_ways(output: Output, text: str) -> None:
    output.say(text)
    output.row({text: text})
    output.show({"key": text, text: [text]})
    output.table(text, [text], [[text], [[text]]])
    output.console.print(text)
    output.console.print(text, style="red")
    output.console.print(Text(text))
    output.console.print(Panel(text, title=text))
    output.console.print([text], {text: text})
    output.console.rule(text)


@pytest.mark.parametrize("terminal", [False, True])
def test_what_others_chose_does_not_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output, file = printed(terminal=terminal)
    hostile_ways(output, HOSTILE)
    text = file.getvalue()
    assert "\x1b" not in escapes_of(text)
    assert not set(text) & set("\x07\u202e\x9b")
    assert "\x1b[8m" not in text, "a colour code of theirs is not one of ours"
    assert r"\x1b[8mhidden" in text


@given(st.text())
def test_nor_does_anything_else(text: str) -> None:
    output, file = printed()
    hostile_ways(output, text)
    assert all(each.isprintable() or each.isspace() or ord(each) > 0x9F for each in file.getvalue())
    assert "\x1b" not in file.getvalue()


def test_the_default_is_this_process_s_output(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    assert output.file is sys.stdout
    output.say("hello")
    assert capsys.readouterr().out == "hello\n"


def test_a_terminal_keeps_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    output, file = printed(terminal=True)

    def human(console: Console) -> None:
        console.print("allowed", style="green")
        console.print(Control.bell())

    output.show({}, human)
    assert "\x1b[32mallowed\x1b[0m\n" in file.getvalue()
    assert "\x07" in file.getvalue(), "control codes of our own pass"


def test_hosts_of_any_type(capsys: pytest.CaptureFixture[str]) -> None:
    values: list[Any] = [1, 1.5, UUID(int=0), Colour.RED]
    Output().show(values)
    assert capsys.readouterr().out.splitlines() == ["1", "1.5", str(UUID(int=0)), "red"]


def test_one_thing_is_not_many() -> None:
    assert [counted(number, "session") for number in (0, 1, 2)] == ["0 sessions", "1 session", "2 sessions"]
