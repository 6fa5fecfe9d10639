"""Finding what an administrator named, or refusing with the nearest name there is."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from certs.errors import BadName
from certs.names import parse_label
from controller.errors import Refused
from controller.storage.models import Gateway, Group, Resource, User

Named = TypeVar("Named", User, Group, Resource, Gateway)

_LISTED: Final = {"policy": "policy show", "segment": "resource list", "intermediate": "ca show"}


async def find(db: AsyncSession, model: type[Named], name: str, what: str) -> Named:
    """The row of that name. Raises Refused("not_found")."""
    row = await db.scalar(select(model).where(_name(model) == name))
    if row is None:
        raise not_found(what, name, await db.scalars(select(_name(model))))
    return row


async def must_be_new(db: AsyncSession, model: type[Named], name: str, what: str) -> None:
    """Raises Refused("exists") if there is a row of that name."""
    if await db.scalar(select(model).where(_name(model) == name)) is not None:
        raise Refused("exists", f"there is already a {what} {name}", "choose another name")


def not_found(what: str, name: str, names: Iterable[str]) -> Refused:
    """The refusal for a name that is nobody's."""
    near = get_close_matches(name, list(names), n=1)
    fix = f"did you mean {near[0]}?" if near else f"see: gloam-controller {listed_by(what)}"
    return Refused("not_found", f"there is no {what} {name!a}", fix)


def listed_by(what: str) -> str:
    """The administrator's command that lists what there is of that kind."""
    return _LISTED.get(what, f"{what} list")


def label(text: str, what: str) -> str:
    """``text`` if it can be a name. Raises Refused("bad_name")."""
    try:
        return parse_label(text, f"{what} name")
    except BadName as error:
        fix = "use lowercase letters, digits and hyphens, as in staff or web-1"
        raise Refused("bad_name", str(error), fix) from error


def _name(model: type[Named]) -> InstrumentedAttribute[str]:
    return model.name
