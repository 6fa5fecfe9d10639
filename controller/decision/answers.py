"""The three answers there are to "may this session reach this resource?".

Laws:

1. An answer is a value; nothing raises to say no.
2. Whoever is denied learns the rule that denied them and what helps, never who else is allowed.
3. ``policies`` are the ``@id`` of the policies that decided (for a step-up: that would allow); a grant's is
   ``grant/UUID``.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class Allow:
    """Yes, by these policies."""

    policies: tuple[str, ...]
    kind: ClassVar[Literal["allow"]] = "allow"
    code: ClassVar[str] = "ok"
    sentence: ClassVar[str] = ""
    fix: ClassVar[str] = ""


@dataclass(frozen=True, slots=True)
class StepUp:
    """Yes, once a fresher proof of who they are is given."""

    code: str
    sentence: str
    fix: str
    policies: tuple[str, ...] = ()
    kind: ClassVar[Literal["step_up"]] = "step_up"


@dataclass(frozen=True, slots=True)
class Deny:
    """No: a code for machines, a sentence for a person, and what helps."""

    code: str
    sentence: str
    fix: str
    policies: tuple[str, ...] = ()
    kind: ClassVar[Literal["deny"]] = "deny"


Answer = Allow | StepUp | Deny


@dataclass(frozen=True, slots=True)
class Explanation:
    """An answer, and what was assumed to give it (empty when every fact was known)."""

    answer: Answer
    assumed: str
