"""What commands print: one JSON document for machines, or tables and sentences for people.

Laws:

1. JSON is whole and stable: one document, or one a line for streams; pure ASCII, so nothing in it acts on a terminal.
2. Nothing that others chose is markup, and none of it reaches a terminal unescaped: the console itself makes every
   printed segment visible, whatever a caller hands it.
3. No colour, no wrapping and no truncation when the output is not a terminal.
"""

import json as json_module
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import PurePath
from typing import IO, Final
from uuid import UUID

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from console.text import visible, visible_lines

UNWRAPPED: Final = 4096  # columns of something that is no terminal: pipes and files get whole lines
_AS_TEXT: Final = (UUID, PurePath, IPv4Address, IPv6Address, IPv4Network, IPv6Network)


class _Visible:
    """A renderable whose every segment is made visible; the console's own control codes pass."""

    def __init__(self, inner: ConsoleRenderable) -> None:
        self._inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._inner, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible_lines(segment.text), segment.style)


class _Hook:
    """The render hook that applies law 2."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Visible(each) for each in renderables]


class _Console(Console):
    """A console that leaves a reader who went away to `console.run`, which must still see it on standard output."""

    def on_broken_pipe(self) -> None:
        """Rich would put /dev/null in the place of standard output, and exit with 1."""
        error = sys.exception()
        if error is not None:
            raise error


def console_for(file: IO[str]) -> Console:
    """A console on ``file`` that keeps laws 2 and 3."""
    terminal = file.isatty()
    console = _Console(
        file=file,
        markup=False,
        emoji=False,
        highlight=False,
        no_color=None if terminal else True,
        width=None if terminal else UNWRAPPED,
        soft_wrap=not terminal,
    )
    console.push_render_hook(_Hook())  # type: ignore[arg-type]
    return console


@dataclass
class Output:
    """Where a command's result goes: ``Output(json=True)``."""

    json: bool = False
    file: IO[str] = field(default_factory=lambda: sys.stdout)
    console: Console = field(init=False)

    def __post_init__(self) -> None:
        self.console = console_for(self.file)

    def show(self, document: object, human: Callable[[Console], None] | None = None) -> None:
        """The result: ``document`` in JSON, or what ``human`` prints (by default the document, line by line)."""
        if self.json:
            self._line(json_module.dumps(document, default=plain, indent=2))
        elif human is not None:
            human(self.console)
        else:
            for line in _lines(document):
                self.console.print(Text(line))

    def row(self, document: object, human: str | None = None) -> None:
        """One item of a stream, flushed at once: a JSON document in one line, or one line for a person."""
        if self.json:
            self._line(json_module.dumps(document, default=plain))
        else:
            self.say(human if human is not None else "  ".join(_lines(document)))
        self.file.flush()

    def say(self, text: str) -> None:
        """A sentence for people; machines are not told."""
        if not self.json:
            self.console.print(Text(text))

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """A table for people; machines are not told (give them ``show`` or ``row``). None is shown as a dash."""
        if self.json:
            return
        table = Table(title=Text(visible(title)), title_justify="left", box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(Text(visible(column)))
        for row in rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        self.console.print(table)

    def _line(self, text: str) -> None:
        self.file.write(f"{text}\n")


def counted(number: int, thing: str) -> str:
    """``1 session``, ``2 sessions``."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def plain(value: object) -> object:
    """A value as JSON may carry it; ``TypeError`` for what should not be printed, secrets among it."""
    match value:
        case Enum():
            return value.value
        case datetime() | date():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case set() | frozenset():
            return sorted(value, key=str)
        case _ if isinstance(value, _AS_TEXT):
            return str(value)
        case _:
            msg = f"a {type(value).__name__} is not for printing"
            raise TypeError(msg)


def shown(cell: object) -> str:
    """A value as people read it, made visible."""
    match cell:
        case None:
            return "-"
        case bool():
            return "yes" if cell else "no"
        case datetime():
            return f"{cell:%Y-%m-%d %H:%M:%S %Z}".rstrip()
        case list() | tuple() | set() | frozenset():
            items = cell if isinstance(cell, list | tuple) else sorted(cell, key=str)
            return ", ".join(shown(each) for each in items) or "-"
        case _:
            return visible(str(cell))


def _lines(document: object) -> list[str]:
    match document:
        case dict():
            return [f"{key}: {shown(value)}" for key, value in document.items()]
        case list():
            return [line for each in document for line in _lines(each)]
        case _:
            return [shown(document)]
