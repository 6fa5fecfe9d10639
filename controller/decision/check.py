"""An administrator's files of Cedar policies: what they hold, or what is wrong with them, where, and what to do.

Laws:

1. Files are in force whole or not at all: one problem anywhere and nothing of it counts.
2. Every problem has a line, a column and a fix. Cedar tells no positions, so they are found: its parser refuses the
   first token that no policy could go on with, so the shortest refused beginning ends with it, or just behind it.
3. An ``@id`` is used once, in all files together; ``grant/…`` belongs to grants.
4. A name of nobody and nothing is a warning, not a problem: it may be made later.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Final

from cedarpy import PolicySet

from controller.decision import schema
from controller.decision.cedar_text import MAX_DEPTH, MAX_FILE, MAX_TOKENS, Statement, Token, position, scan, split
from controller.decision.policies import BadPolicy, Policy, read_policy

GRANTS: Final = "grant/"
_UNFINISHED: Final = "unexpected end of input"
_UNEXPECTED: Final = "unexpected token"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file's name and its text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong, where (from 1), and what to do."""

    file: str
    line: int
    column: int
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A policy and where it begins."""

    policy: Policy
    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Checked:
    """The policies of some files, and what is wrong with them; with a problem, none may be used."""

    policies: tuple[Placed, ...]
    problems: tuple[Problem, ...]


def check_files(files: Iterable[PolicyFile]) -> Checked:
    """What ``files`` hold together."""
    placed: list[Placed] = []
    problems: list[Problem] = []
    first: dict[str, Placed] = {}
    for file in files:
        checked = _check_file(file)
        problems += checked.problems
        for each in checked.policies:
            before = first.setdefault(each.policy.id, each)
            if before is not each:
                where = f"line {before.line}" if before.file == each.file else f"{before.file} line {before.line}"
                what = f'@id("{each.policy.id}") is already used in {where}'
                problems.append(Problem(each.file, each.line, each.column, what, "give one of them another @id"))
            elif each.policy.id.startswith(GRANTS):
                what = f'@id("{each.policy.id}") looks like a grant'
                problems.append(Problem(each.file, each.line, each.column, what, f'begin it otherwise than "{GRANTS}"'))
            else:
                placed.append(each)
    return Checked(tuple(placed), tuple(sorted(problems)))


def unknown_names(checked: Checked, known: Mapping[str, Iterable[str]]) -> tuple[Problem, ...]:
    """Warnings for names that are nobody's (``known``: entity type → names), with the nearest there is."""
    warnings = []
    for each in checked.policies:
        for kind, name in sorted(each.policy.entities):
            names = list(known.get(kind, ()))
            if kind in known and name not in names:
                near = get_close_matches(name, names, n=1)
                fix = f"did you mean {near[0]}?" if near else f"add the {kind.lower()}, or correct the name"
                what = f"policy {each.policy.id}: there is no {kind.lower()} {name!a}"
                warnings.append(Problem(each.file, each.line, each.column, what, fix))
    return tuple(warnings)


def _check_file(file: PolicyFile) -> Checked:
    if len(file.text) > MAX_FILE:
        what = f"the file is longer than {MAX_FILE} characters"
        return Checked((), (Problem(file.name, 1, 1, what, "split it into several files"),))
    placed, problems = [], []
    for statement in split(scan(file.text)):
        line, column = position(file.text, statement.start)
        try:
            placed.append(Placed(_read(file.text, statement), file.name, line, column))
        except _FoundError as found:
            problems.append(Problem(file.name, *position(file.text, found.offset), found.what, found.fix))
    return Checked(tuple(placed), tuple(problems))


class _FoundError(Exception):
    """A problem at an offset of the text."""

    def __init__(self, offset: int, what: str, fix: str) -> None:
        super().__init__(what)
        self.offset = offset
        self.what = what
        self.fix = fix


def _read(text: str, statement: Statement) -> Policy:
    if bad := next((token for token in statement.tokens if token.kind == "bad"), None):
        raise _bad_character(text, bad)
    if deep := statement.too_deep():
        what = f"this policy has more than {MAX_DEPTH} nested brackets or {MAX_TOKENS} words"
        raise _FoundError(deep.start, what, "split it into several policies")
    try:
        return read_policy(text[statement.start : statement.end])
    except BadPolicy as error:
        if str(error).startswith((_UNEXPECTED, _UNFINISHED)):
            raise _syntax(text, statement, str(error)) from error
        raise _FoundError(_where(text, statement, error), str(error), error.fix or _fix(str(error))) from error


def _bad_character(text: str, token: Token) -> _FoundError:
    if token.text == '"':
        return _FoundError(token.start, "this string does not end", 'close it with "')
    doubled = {"&": 'write "&&"', "|": 'write "||"', "'": 'use double quotes, "'}
    fix = doubled.get(token.text, "remove it, or put it in a string")
    return _FoundError(token.start, f"{text[token.start]!a} has no meaning here", fix)


def _syntax(text: str, statement: Statement, message: str) -> _FoundError:
    """The first token that no policy could go on with, found by halving."""
    tokens = statement.tokens
    low, high = 0, len(tokens)  # `low` tokens can be a beginning; `high` cannot, or are all there are
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _is_beginning(text[statement.start : tokens[middle - 1].end]) else (low, middle)
    if _is_beginning(text[statement.start : tokens[high - 1].end]):
        return _FoundError(tokens[-1].end, "the policy does not end", 'close its brackets and end it with ";"')
    # The parser may skip a wrong token to look for more errors, and so accept it at the end of a beginning.
    named = message.removeprefix(_UNEXPECTED).strip(" `")
    index = next((each for each in reversed(range(high)) if tokens[each].text == named), high - 1)
    before = f" after {_shown(tokens[index - 1].text)}" if index else ""
    return _FoundError(
        tokens[index].start, f"{_shown(tokens[index].text)} cannot stand here{before}", _syntax_fix(tokens, index)
    )


def _is_beginning(text: str) -> bool:
    try:
        PolicySet.from_str(text)
    except ValueError as error:
        return not str(error).startswith(_UNEXPECTED)
    return True  # pragma: no cover - beginnings of what is wrong are at best unfinished


def _syntax_fix(tokens: Sequence[Token], index: int) -> str:
    text = tokens[index].text
    if index and text in {"permit", "forbid", "@"}:
        return 'end the policy before it with ";"'
    opened = [token.text for token in _opened(tokens[:index])]
    if text in _CLOSING and opened and opened[-1] != _CLOSING[text]:
        return f"close {_shown(opened[-1])} before it" if text == ";" or _CLOSING[text] in opened else "remove it"
    if text in {"and", "or", "not"}:
        return 'write "&&", "||" or "!"'
    if index and tokens[index - 1].text in {
        "==",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "&&",
        "||",
        "+",
        "-",
        "*",
        "!",
        "in",
        "like",
    }:
        return f"say what {_shown(tokens[index - 1].text)} is about"
    return 'write @id("NAME") permit (principal in Group::"G", action, resource == Resource::"R") when { … };'


def _where(text: str, statement: Statement, error: BadPolicy) -> int:
    """Where what the error names first stands, else the clause that alone has the same error, else the beginning."""
    near = error.near
    wanted = [token.text for token in scan(near)]
    texts = [token.text for token in statement.tokens]
    for index in range(len(texts) - len(wanted) + 1):
        if wanted and texts[index : index + len(wanted)] == wanted:
            return statement.tokens[index].start
    quoted = next((token for token in statement.tokens if near and token.kind == "string" and near in token.text), None)
    return _clause(text, statement, str(error)) if quoted is None else quoted.start


_CLOSING: Final = {")": "(", "]": "[", "}": "{", ";": ""}


def _opened(tokens: Sequence[Token]) -> list[Token]:
    """The brackets that are not closed, the innermost last."""
    opened: list[Token] = []
    for token in tokens:
        if token.text in {"(", "[", "{"}:
            opened.append(token)
        elif opened and _CLOSING.get(token.text) == opened[-1].text:
            opened.pop()
    return opened


def _clause(text: str, statement: Statement, message: str) -> int:
    """Where the clause begins that alone has this error."""
    starts = [token.start for token in statement.tokens if token.text in {"when", "unless"}]
    head = text[statement.start : starts[0]] if starts else ""
    for start, end in pairwise((*starts, statement.end)):
        try:
            read_policy(f"{head}{text[start:end].rstrip('; ')};")
        except BadPolicy as error:
            if str(error) == message:
                return start
    return statement.start


def _fix(what: str) -> str:
    """What to do about a message of Cedar's."""
    match = re.search(r"`([^`]+)`", what)
    word = match[1] if match else what.rpartition(" ")[2]
    if what.startswith("attribute"):
        near = get_close_matches(word.rpartition(".")[2], schema.ATTRIBUTES, n=1)
        there = (
            f"the context has {', '.join(schema.CONTEXT)}"
            if "context" in what
            else "users have name; resources name, protocol, port"
        )
        return f"did you mean {near[0]}? {there}" if near else there
    for sign, words in _WORDS.items():
        if sign in what:
            return _nearest(word, words)
    return next((fix for sign, fix in _FIXES.items() if sign in what), "write it as the Cedar manual does")


_WORDS: Final = {
    "unrecognized entity type": schema.ENTITY_TYPES,
    "valid method": (
        "contains",
        "containsAll",
        "containsAny",
        "isEmpty",
        "isInRange",
        "isIpv4",
        "isIpv6",
        "isLoopback",
    ),
    "variable": schema.VARIABLES,
    "policy effect": ("permit", "forbid"),
    "policy condition": ("when", "unless"),
}
"""What a message of Cedar's says, and the words one of which may have been meant."""

_FIXES: Final = {
    "unrecognized action": f'the only action is Action::"{schema.ACTION}"',
    "applicable action": "principals are of type User or in a Group, resources of type Resource or in a Segment",
    "annotation": "write each annotation once",
    "unexpected type": "compare values of one type; the schema says which each attribute has",
    "not compatible": "compare values of one type; the schema says which each attribute has",
    "valid operator": 'compare with "=="',
    "entity uid": 'write User::"NAME", Group::"NAME", Resource::"NAME" or Segment::"NAME"',
    "IP address": 'write an address or a network, as in ip("10.0.0.0/8")',
    "nesting": "split it into several policies",
    "too many occurrences": "write it once",
    "integer parse error": "use a smaller number",
}
"""What a message of Cedar's says, and what to do."""


def _nearest(word: str, words: Sequence[str]) -> str:
    near = get_close_matches(word, words, n=1)
    return f"did you mean {near[0]}?" if near else f"use one of {', '.join(words)}"


def _shown(text: str) -> str:
    return text if text.startswith('"') else f'"{text}"'
