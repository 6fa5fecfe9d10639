"""One policy, read: what Cedar understood of it, and what the engine needs to know before asking Cedar.

Laws:

1. Everything here is read from Cedar's own syntax tree, never from the text a second time.
2. A policy without an ``@id`` is refused: answers and the audit log name policies by it.
3. Hours are literals: ``context.open_windows`` stands only before ``.contains("…")``, ``.containsAny(["…"])`` or
   ``.containsAll(["…"])``, with hours that exist. So a mistyped window is an error, not a rule that never holds.
4. Templates are refused: nothing links them, so they would allow and forbid nothing.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from cedarpy import PolicySet, pst, validate_policies

from controller.decision.hours import BadHours, Hours
from controller.decision.schema import SCHEMA

ID: Final = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,127}\Z")
_WINDOWS: Final = "open_windows"
_CONTAINS: Final = ("contains", "contains_all", "contains_any")

Uid = tuple[str, str]


class BadPolicy(ValueError):  # noqa: N818 - reads as what it is
    """A policy that cannot be used. ``near`` is a text to point at within it, if there is one."""

    def __init__(self, what: str, fix: str, near: str = "") -> None:
        super().__init__(what)
        self.fix = fix
        self.near = near


@dataclass(frozen=True, slots=True)
class Scope:
    """What a policy's ``principal`` or ``resource`` must be. ``uid``: itself (``exact``) or something it is in."""

    type: str | None = None
    uid: Uid | None = None
    exact: bool = False

    def holds(self, own: Uid, ancestors: frozenset[Uid]) -> bool:
        """Whether it holds for the entity ``own``, which is in ``ancestors`` (transitively, with itself)."""
        if self.type is not None and self.type != own[0]:
            return False
        return self.uid is None or (self.uid == own if self.exact else self.uid in ancestors)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as the engine keeps it. ``reads``: attributes of the context it looks at; ``windows``: its hours."""

    id: str
    effect: Literal["permit", "forbid"]
    text: str
    principal: Scope
    resource: Scope
    reads: frozenset[str]
    windows: Mapping[str, Hours]
    entities: frozenset[Uid]
    reason: str
    fix: str


@lru_cache(maxsize=16_384)
def read_policy(text: str) -> Policy:
    """The one policy ``text`` holds, valid by the schema. Raises :class:`BadPolicy`."""
    try:
        tree = PolicySet.from_str(text).to_pst()
    except ValueError as error:
        raise BadPolicy(str(error), "", _quoted(str(error))) from error
    if tree.templates:
        raise BadPolicy("templates decide nothing here", "write a policy for each who or what", "?")
    if len(tree.static_policies) != 1:
        raise BadPolicy("this is not one policy", "end each policy with a semicolon")
    policy = next(iter(tree.static_policies.values()))
    identifier = policy.annotations.get("id")
    if identifier is None:
        raise BadPolicy("this policy has no @id", 'write @id("a-name-of-your-own") before it')
    if not ID.match(identifier):
        raise BadPolicy(
            f"{identifier[:128]!a} is no @id", "use letters, digits, dots, hyphens, underscores and slashes", "id"
        )
    _validate(text)
    return Policy(
        id=identifier,
        effect=policy.effect,
        text=text,
        principal=_scope(policy.principal),
        resource=_scope(policy.resource),
        reads=_reads(policy),
        windows=_windows(policy),
        entities=frozenset((str(uid.type), uid.id) for uid in pst.entity_uids(policy)),
        reason=policy.annotations.get("reason", ""),
        fix=policy.annotations.get("fix", ""),
    )


def _validate(text: str) -> None:
    errors = [error.error.removeprefix("for policy `policy0`, ") for error in validate_policies(text, SCHEMA).errors]
    if errors:
        # That no action applies follows from a mistyped name, which is told first.
        first = next((each for each in errors if "applicable action" not in each), errors[0])
        raise BadPolicy(first, "", _quoted(first))


def _scope(constraint: pst.PrincipalOrResourceConstraint) -> Scope:
    match constraint:
        case pst.ScopeEq(entity=pst.EntityUid() as uid):
            return Scope(uid=(str(uid.type), uid.id), exact=True)
        case pst.ScopeIn(entity=pst.EntityUid() as uid):
            return Scope(uid=(str(uid.type), uid.id))
        case pst.ScopeIs(entity_type=kind):
            return Scope(type=str(kind))
        case pst.ScopeIsIn(entity_type=kind, entity=pst.EntityUid() as uid):
            return Scope(type=str(kind), uid=(str(uid.type), uid.id))
        case _:
            return Scope()  # any, or something newer than this code: left to Cedar


def _nodes(root: object) -> Iterator[Any]:
    """Every node under ``root`` with itself, without recursion."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, Mapping):
            stack.extend(node.values())
        elif isinstance(node, tuple):
            stack.extend(node)
        elif is_dataclass(node):
            yield node
            stack.extend(getattr(node, field.name) for field in fields(node))


def _reads(policy: pst.Template) -> frozenset[str]:
    context = pst.Var("context")
    nodes = list(_nodes(policy.clauses))
    reads = [node.attr for node in nodes if isinstance(node, pst.GetAttr) and node.base == context]
    asked = sum(isinstance(node, pst.HasAttr) and node.base == context for node in nodes)
    if sum(node == context for node in nodes) != len(reads) + asked:
        raise BadPolicy(
            "the context is used as a whole", "name the attribute you mean, as in context.source", "context"
        )
    return frozenset(reads)


def _windows(policy: pst.Template) -> dict[str, Hours]:
    attribute = pst.GetAttr(pst.Var("context"), _WINDOWS)
    nodes = list(_nodes(policy.clauses))
    asked = [n for n in nodes if isinstance(n, pst.BinaryOp) and n.op in _CONTAINS and n.left == attribute]
    literals: list[str] = []
    for node in asked:
        for member in node.right.elements if isinstance(node.right, pst.Set) else (node.right,):
            if not isinstance(member, pst.StringLit):
                raise BadPolicy("hours that are not written out", f"write {_EXAMPLE}", _WINDOWS)
            literals.append(member.value)
    if sum(node == attribute for node in nodes) != len(asked):
        raise BadPolicy("open_windows is used for something else than asking for hours", f"write {_EXAMPLE}", _WINDOWS)
    windows = {}
    for literal in literals:
        try:
            windows[literal] = Hours.parse(literal)
        except BadHours as error:
            raise BadPolicy(str(error), error.fix, literal) from error
    return windows


_EXAMPLE: Final = 'context.open_windows.contains("Mon-Fri 08:00-18:00 Europe/Paris")'


def _quoted(sentence: str) -> str:
    """What a message of Cedar's names: in backquotes, else the word after its colon."""
    match = (
        re.search(r"`([^`]+)`", sentence) or re.search(r"\A'([^']+)'", sentence) or re.search(r": @?(\w+)\Z", sentence)
    )
    return match[1] if match else ""
