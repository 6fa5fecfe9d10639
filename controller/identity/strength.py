"""Whether a password is strong enough (pure): an estimate of how many guesses it takes, by zxcvbn.

1. A password that is guessed in fewer than 10^8 tries (score 2 of 4, or less) is refused, whoever chooses it.
2. The name of the person and of the perimeter are what a guesser tries first.
3. The refusal says what makes it weak and what helps, and never repeats it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from zxcvbn import zxcvbn

GOOD: Final = 3
LONGEST_JUDGED: Final = 72  # characters: the estimate takes quadratic time, and this much is strong or hopeless


@dataclass(frozen=True, slots=True)
class Weak:
    """What makes a password weak, and what helps."""

    why: str
    fix: str


def weakness(password: str, known: Sequence[str]) -> Weak | None:
    """What is wrong with `password`, given words that anybody `known` to the guesser; None if it is strong enough."""
    judged = password[:LONGEST_JUDGED]
    words = [word for name in known for word in (name, *name.split("@"), *name.replace("@", ".").split("."))]
    estimate = zxcvbn(judged, user_inputs=words)
    if estimate["score"] >= GOOD:
        return None
    feedback = estimate["feedback"]
    warning = str(feedback["warning"]).rstrip(".")
    why = f"the password is easily guessed{f': {warning[0].lower()}{warning[1:]}' if warning else ''}"
    return Weak(why, "take four or more words that do not belong together, or let a password manager make one")
