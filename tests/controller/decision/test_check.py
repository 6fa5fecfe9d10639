"""An administrator's files: what is wrong is found where it is, with what to do about it."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.decision.cedar_text import MAX_FILE, Token, position, quote, scan, split
from controller.decision.check import PolicyFile, check_files, unknown_names
from controller.decision.policies import read_policy

ALL = "permit (principal, action, resource)"
GOOD = f'@id("good") {ALL};'


def when(condition: str) -> str:
    return f'@id("a") {ALL} when {{ {condition} }};'


PROBLEMS = {
    # text, line, column, what is said, what to do
    "an operator without its right side": (
        f'@id("a")\n{ALL} when {{\n  context.mfa_age_seconds >= }};',
        3, 30, '"}" cannot stand here after ">="', "say what",
    ),
    "a semicolon forgotten": (
        f'@id("a")\n{ALL}\n@id("b")\n{ALL};', 3, 1, '"@" cannot stand here', 'end the policy before it with ";"',
    ),
    "the last semicolon forgotten": (f'@id("a") {ALL}', 1, 46, "does not end", '";"'),
    "a bracket forgotten": (f'@id("a") {ALL} when {{ true', 1, 58, "does not end", "close its brackets"),
    "a word for an operator": (when("true and true"), 1, 59, '"and" cannot stand here', '"&&"'),
    "half an operator": (when("true & true"), 1, 59, "'&' has no meaning", '"&&"'),
    "assignment": (when("resource.port = 1"), 1, 68, "'=' is not a valid operator", '"=="'),
    "a string without its end": (f'@id("a")\n{ALL} when {{ "abc }};', 2, 45, "does not end", "close it"),
    "a stray character": (when("#"), 1, 54, "'#' has no meaning", "remove it"),
    "two policies in one": (f"{GOOD}\n;", 2, 1, '";" cannot stand here', "@id"),
    "no id": (f"// nothing\n{ALL};", 2, 1, "no @id", "@id("),
    "an empty id": (f'@id("") {ALL};', 1, 2, "'' is no @id", "letters"),
    "two ids": (f'@id("a") @id("b") {ALL};', 1, 2, "duplicate annotation", "once"),
    "an id used twice": (f"{GOOD}\n\n{GOOD}", 3, 1, "already used in line 1", "another @id"),
    "the id of a grant": (f'@id("grant/x") {ALL};', 1, 1, "looks like a grant", "otherwise"),
    "no such effect": ('@id("a") permitt (principal, action, resource);', 1, 10, "permitt", "did you mean permit?"),
    "no such variable": (
        '@id("a") permit (principle, action, resource);', 1, 18, "principle", "did you mean principal?",
    ),
    "no such condition": (f'@id("a") {ALL} where {{ true }};', 1, 47, "where", "did you mean when?"),
    "no such type": (
        '@id("a") permit (principal == Usr::"x", action, resource);', 1, 31, "`Usr`", "did you mean User?",
    ),
    "no such action": (
        '@id("a") permit (principal, action == Action::"read", resource);', 1, 39, '"read"', 'Action::"connect"',
    ),
    "no such attribute of the context": (
        f'@id("a") {ALL}\nwhen {{ context.mfa_age_second > 1 }};',
        2, 16, "`mfa_age_second`", "did you mean mfa_age_seconds?",
    ),
    "a signal there is none of": (when("context.risk >= 80"), 1, 62, "`risk`", "the context has device"),
    "no such attribute of a resource": (when("resource.secret == 1"), 1, 63, "`secret`", "resources name"),
    "no such method": (when("context.source.isLopback()"), 1, 69, "`isLopback`", "did you mean isLoopback?"),
    "a principal that is a resource": (
        '@id("a") permit (principal in Resource::"x", action, resource);', 1, 1, "applicable action", "User",
    ),
    "apples and pears, in the second clause": (
        f'@id("a") {ALL}\nwhen {{ true }}\nwhen {{ context.mfa_age_seconds > "x" }};',
        3, 1, "expected Long", "one type",
    ),
    "no address": (when('context.source == ip("x")'), 1, 75, '"x"', "10.0.0.0/8"),
    "a number too large": (when("99999999999999999999 > 1"), 1, 47, "integer", "smaller"),
    "a template": ('@id("a") permit (principal == ?principal, action, resource);', 1, 31, "templates", "each"),
    "hours that are none": (
        when('context.open_windows.contains("Mon-Fri 8-18")'), 1, 84, "'Mon-Fri 8-18' is not hours", "Europe/Paris",
    ),
    "hours that are computed": (
        when("context.open_windows.contains(context.device.name)"), 1, 62, "not written out", "Mon-Fri",
    ),
    "hours used for something else": (
        when("context.open_windows.isEmpty()"), 1, 62, "something else", "contains",
    ),
    "the context as a whole": (
        when('(if true then context else context).now > datetime("2026-01-01")'),
        1, 68, "as a whole", "name the attribute",
    ),
    "a bracket not closed": (when("(true"), 1, 60, '"}" cannot stand here', 'close "(" before it'),
    "a brace not closed": (f'@id("a") {ALL} when {{ true ;', 1, 59, '";" cannot stand here', 'close "{" before it'),
    "one bracket too many": (when("(true))"), 1, 60, '")" cannot stand here', "remove it"),
    "single quotes": (f"@id('a') {ALL};", 1, 5, "no meaning", "double quotes"),
    "a mere name": ('@id("a") permit (principal == "alice", action, resource);', 1, 31, "entity uid", "User::"),
    "two mistakes in two clauses": (
        f'@id("a") {ALL}\nwhen {{ 1 + 1 > "x" }}\nunless {{ 99999999999999999999 > 1 }};',
        3, 1, "integer", "smaller",
    ),
    "too many brackets": (when(f'{"(" * 40}true{")" * 40}'), 1, 85, "nested brackets", "split"),
    "too many words": (when(f'{"true && " * 2000}true'), 1, 8000, "2000 words", "split"),
    "too deep a tree": (when(f'{"1 + " * 300}1 > 3'), 1, 47, "nesting", "split"),
    "too many negations": (when("!!!!!!true"), 1, 54, "`!`", "once"),
    "too long a file": (" " * (MAX_FILE + 1), 1, 1, "longer than", "several files"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "what", "fix"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_is_wrong_is_found(text: str, line: int, column: int, what: str, fix: str) -> None:
    checked = check_files([PolicyFile("f.cedar", text)])
    (problem,) = checked.problems
    assert what in problem.what
    assert fix in problem.fix
    assert (problem.file, problem.line) == ("f.cedar", line)
    if column < 8000:  # the exact word that is one too many is of no interest
        assert problem.column == column


def test_a_good_file_is_read_whole() -> None:
    text = f"""// Two policies
    {GOOD}
    @id("hours") @reason("Nights are for backups.") @fix("Come back at eight.")
    forbid (principal in Group::"staff", action == Action::"connect", resource in Segment::"office")
    unless {{ context has now
              && context.open_windows.containsAny(["Mon-Fri 08:00-18:00 UTC", "Sat 10:00-12:00 UTC"]) }};
    """
    checked = check_files([PolicyFile("f.cedar", text)])
    assert checked.problems == ()
    good, hours = checked.policies
    assert (good.policy.id, good.line, good.column) == ("good", 2, 5)
    assert (hours.policy.id, hours.line, hours.policy.effect) == ("hours", 3, "forbid")
    assert (hours.policy.reason, hours.policy.fix) == ("Nights are for backups.", "Come back at eight.")
    assert list(hours.policy.windows) == ["Mon-Fri 08:00-18:00 UTC", "Sat 10:00-12:00 UTC"]
    assert hours.policy.reads == {"open_windows"}


def test_records_and_sets_are_read_through() -> None:
    condition = '{a: context.source}.a == ip("10.0.0.1") && [context.session_age_seconds].contains(3)'
    (placed,) = check_files([PolicyFile("f", when(condition))]).policies
    assert placed.policy.reads == {"source", "session_age_seconds"}


@pytest.mark.parametrize("text", ["", "\n\n", "// nothing but words", "\ufeff// saved by another editor"])
def test_a_file_may_hold_nothing(text: str) -> None:
    assert check_files([PolicyFile("f", text)]).problems == ()


def test_every_wrong_policy_of_a_file_is_named() -> None:
    text = f'@id("a") {ALL} when {{ context.risk > 1 }};\n{ALL};\n{GOOD}\n@id("b") {ALL} when {{ true tru }};'
    checked = check_files([PolicyFile("f", text)])
    assert [problem.line for problem in checked.problems] == [1, 2, 4]
    assert [each.policy.id for each in checked.policies] == ["good"]


def test_an_id_used_in_another_file_is_named_there() -> None:
    checked = check_files([PolicyFile("one", f"\n{GOOD}"), PolicyFile("two", GOOD)])
    (problem,) = checked.problems
    assert problem.file == "two"
    assert "one line 2" in problem.what


def test_names_of_nobody_are_warned_about() -> None:
    text = '@id("a") permit (principal in Group::"stafff", action, resource == Resource::"x");'
    checked = check_files([PolicyFile("f", text)])
    known = {"User": ["alice"], "Group": ["staff"], "Resource": ["wiki"], "Segment": []}
    group, resource = unknown_names(checked, known)
    assert "'stafff'" in group.what
    assert group.fix == "did you mean staff?"
    assert "add the resource" in resource.fix
    assert unknown_names(check_files([PolicyFile("f", GOOD)]), known) == ()


HOSTILE = (
    "(" * 5000,
    "[" * 5000,
    "{a:" * 5000,
    "true && " * 9000,
    "if true then true else " * 3000,
    "-" * 9000,
    ".a" * 9000,
)


def test_nothing_that_is_checked_ends_the_process() -> None:
    """Cedar's parser overflows the stack on these (cedarpy 4.12); in a process of its own, in case this fails."""
    code = """
import sys
from controller.decision.check import PolicyFile, check_files
for body in eval(sys.stdin.read()):
    whole = f'@id("a") permit (principal, action, resource) when {{ {body} }};'
    assert check_files([PolicyFile("f", whole)]).problems
    assert check_files([PolicyFile("f", body)]).problems
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=repr(HOSTILE), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


@given(st.text())
def test_any_text_can_be_quoted(text: str) -> None:
    cleaned = text.encode("utf-8", "ignore").decode()
    assert read_policy(f'@id("x") @reason({quote(cleaned)}) {ALL};').reason == cleaned


@given(st.text(alphabet='permit forbid()@id"a;{}\\/\n&|=! contex.1', max_size=80))
def test_any_text_can_be_checked(text: str) -> None:
    checked = check_files([PolicyFile("f", text)])
    assert all(
        1 <= problem.line <= text.count("\n") + 1 and problem.column >= 1 and problem.fix
        for problem in checked.problems
    )


@given(st.text())
def test_tokens_are_where_they_say(text: str) -> None:
    tokens = scan(text)
    assert all(text[token.start : token.end] == token.text for token in tokens)
    assert [token for statement in split(tokens) for token in statement.tokens] == list(tokens)


def test_positions_count_from_one() -> None:
    assert [position("ab\nc", offset) for offset in range(5)] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert scan("a")[0] == Token("word", "a", 0, 1)
