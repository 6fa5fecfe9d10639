"""What every audit event has in common.

Laws:

1. Making an event never fails because of what a stranger sent: text is cut to its limit and made storable.
2. Every event names the OCSF class (version 1.3) it is exported as, with the activity within that class.
"""

from enum import IntEnum
from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

TEXT_LIMIT: Final = 1024  # characters; longer text is cut, never refused (law 3)
LIST_LIMIT: Final = 64  # entries


class Ocsf(IntEnum):
    """The OCSF 1.3 classes used here, by their class_uid."""

    DETECTION_FINDING = 2004
    ACCOUNT_CHANGE = 3001
    AUTHENTICATION = 3002
    AUTHORIZE_SESSION = 3003
    ENTITY_MANAGEMENT = 3004
    NETWORK_ACTIVITY = 4001
    APPLICATION_LIFECYCLE = 6002
    API_ACTIVITY = 6003


def _storable(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = value.encode("utf-8", "replace").decode()  # a lone surrogate is no text that JSON or a database takes
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def _shortened(value: object) -> object:
    return tuple(value)[:LIST_LIMIT] if isinstance(value, list | tuple | set | frozenset) else value


Text = Annotated[str, BeforeValidator(_storable)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_shortened)]
Count = Annotated[int, Field(ge=0)]


class Event(BaseModel):
    """Something that happened."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    ocsf: ClassVar[Ocsf]
    activity: ClassVar[int] = 99  # "other" in every OCSF class
    failure: ClassVar[bool] = False
    kind: str
