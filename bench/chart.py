"""The figures as a picture: SVG text made of rows, readable on light and on dark pages.

1. Two panels. What is compared with HAProxy, as multiples of it; then what is held against a fixed bar, as a share of
   what the bar allows. In both, shorter is better, and every bar of the picture carries its figure in words.
2. A line marks the bar of a row and a dashed one its aim. What is longer than the picture has an arrow.
3. The picture brings its own background and asks for the reader's preference, so it never depends on the page.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from xml.sax.saxutils import escape

from bench.figures import Bar, Row, Sense, shown
from bench.sides import OURS

WIDTH = 980
LEFT = 320  # of the bars; the names stand before it
SCALE = 210  # pixels of 1.0: HAProxy's figure in one panel, what the bar allows in the other
LONGEST = 1.6  # in units of SCALE; the words of longer bars begin with an arrow
WORDS = LEFT + SCALE * LONGEST + 14
LINE = 20  # pixels from one bar to the next
GAP = 12  # between rows
PEER = "HAProxy"

_SHAPES = """\
text { font: 13px system-ui, sans-serif }
.title { font-size: 15px; font-weight: 600 }
.faint { font-size: 12px }
.name { text-anchor: end }
.bar, .aim { stroke-width: 2 }
.aim { stroke-dasharray: 3 2 }"""

_COLOURS = """\
.page {{ fill: {} }} text {{ fill: {} }} .faint {{ fill: {} }} .ours {{ fill: {} }} .peer {{ fill: {} }}
.bar {{ stroke: {} }} .aim {{ stroke: {} }}"""
_LIGHT = _COLOURS.format("#ffffff", "#1f2328", "#59636e", "#6f42c1", "#aeb7c2", "#c4202c", "#1a7f37")
_DARK = _COLOURS.format("#14181f", "#e6edf3", "#9aa4af", "#a585f5", "#566070", "#ff7b72", "#56d364")
_STYLE = f"{_SHAPES}\n{_LIGHT}\n@media (prefers-color-scheme: dark) {{\n{_DARK}\n}}"


@dataclass(frozen=True, slots=True)
class _Strip:
    """One bar of the picture: its length in units of SCALE, and the words behind it."""

    kind: str  # "ours" or "peer"
    length: float
    words: str


@dataclass(frozen=True, slots=True)
class _Group:
    """The bars of one row, and where its bar and its aim stand."""

    name: str
    strips: tuple[_Strip, ...]
    bar: float | None
    aim: float | None


def chart(rows: Sequence[Row], caption: str) -> str:
    """The SVG document."""
    panels = (
        (f"Cost beside {PEER}: multiples of its figure, shorter is better", list(_compared(rows))),
        ("Held against fixed bars: share of what is allowed, shorter is better", list(_bounded(rows))),
    )
    parts: list[str] = []
    top = 16.0
    for title, groups in panels:
        if groups:
            parts.append(f'<text class="title" x="16" y="{top + 14:g}">{escape(title)}</text>')
            top += 36
            for group in groups:
                parts += _drawn(group, top)
                top += LINE * len(group.strips) + GAP
            top += 14
    for line in ("solid line: the bar; dashed line: the aim", *caption.split("; ")):
        parts.append(f'<text class="faint" x="16" y="{top + 6:g}">{escape(line)}</text>')
        top += 18
    height = round(top + 6)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    page = f'<rect class="page" width="{WIDTH}" height="{height}" rx="8"/>'
    named = f"<title>gloam beside {PEER} and its bars</title>"
    return "\n".join([f'{head} role="img">', named, f"<style>{_STYLE}</style>", page, *parts, "</svg>"]) + "\n"


def _compared(rows: Sequence[Row]) -> Iterator[_Group]:
    """Rows that stand beside HAProxy, each with its other peers, as multiples of HAProxy's figure."""
    for name, same in groupby(rows, key=lambda row: row.name):
        group = list(same)
        first = next((row for row in group if row.peer_name == PEER), None)
        if first is None or not first.peer or first.ours is None or _better_when_more(first):
            continue
        unit = first.peer
        peers = [_Strip("peer", row.peer / unit, f"{row.peer_name} {shown(row.peer)}") for row in group if row.peer]
        mine = _Strip("ours", first.ours / unit, f"{OURS} {shown(first.ours)} {first.unit}")
        bar, aim = (_place(each, unit) for each in (first.bar, first.aim))
        yield _Group(name, (mine, *peers), bar, aim)


def _place(bar: Bar | None, unit: float) -> float | None:
    """Where a bar stands in multiples of a peer's figure."""
    return None if bar is None else bar.bound if bar.of_peer else bar.bound / unit


def _bounded(rows: Sequence[Row]) -> Iterator[_Group]:
    """Rows with a fixed bar, as shares of what it allows: the figure by the bar, or the bar by the figure."""
    for row in rows:
        if row.bar is None or row.bar.of_peer or not row.ours or row.peer_name == PEER:
            continue
        share = _share(row.bar, row.ours, row.bar.bound)
        aim = None if row.aim is None else _share(row.bar, row.aim.bound, row.bar.bound)
        beside = f"; {row.peer_name} {shown(row.peer)}" if row.peer else ""
        words = f"{shown(row.ours)} {row.unit} ({row.bar.text()}{beside})"
        yield _Group(row.name, (_Strip("ours", share, words),), 1.0, aim)


def _share(bar: Bar, value: float, bound: float) -> float:
    return value / bound if bar.sense is Sense.AT_MOST else bound / value


def _better_when_more(row: Row) -> bool:
    return any(each is not None and each.sense is Sense.AT_LEAST for each in (row.bar, row.aim))


def _drawn(group: _Group, top: float) -> Iterator[str]:
    yield f'<text class="name" x="{LEFT - 12}" y="{top + 14:g}">{escape(group.name)}</text>'
    for number, strip in enumerate(group.strips):
        y = top + LINE * number
        length = SCALE * min(strip.length, LONGEST)
        yield f'<rect class="{strip.kind}" x="{LEFT}" y="{y + 2:g}" width="{length:.1f}" height="{LINE - 5}" rx="2"/>'
        arrow = "→ " if strip.length > LONGEST else ""
        yield f'<text x="{WORDS:g}" y="{y + 14:g}">{escape(arrow + strip.words)}</text>'
    for kind, at in (("bar", group.bar), ("aim", group.aim)):
        if at is not None and at <= LONGEST:
            x = f"{LEFT + SCALE * at:.1f}"
            yield f'<line class="{kind}" x1="{x}" y1="{top - 2:g}" x2="{x}" y2="{top + LINE - 1:g}"/>'
