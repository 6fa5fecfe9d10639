"""Views as documents: what a dataclass holds, by its fields' names."""

from collections.abc import Iterable
from dataclasses import asdict, is_dataclass
from typing import Any

Documents = dict[str, Any] | list[dict[str, Any]]


def document(view: object) -> dict[str, Any]:
    """One view. Raises TypeError for what is none: only what was made to be shown is shown."""
    if not is_dataclass(view) or isinstance(view, type):
        raise TypeError(f"a {type(view).__name__} is no view")
    return asdict(view)


def documents(views: Iterable[object]) -> list[dict[str, Any]]:
    """Several."""
    return [document(view) for view in views]
