"""The schema, parsed once, and the words in it that a mistyped policy may have meant.

Law: every policy and every request is checked against this one handle.
"""

import re
from importlib.resources import files
from typing import Final

from cedarpy import Schema

TEXT: Final = files("controller.decision").joinpath("schema.cedarschema").read_text(encoding="utf-8")
SCHEMA: Final = Schema.from_str(TEXT)

ENTITY_TYPES: Final = ("Group", "Resource", "Segment", "User")
ACTION: Final = "connect"
CONTEXT: Final = ("device", "mfa_age_seconds", "now", "open_windows", "session_age_seconds", "source")
"""The attributes of the context; those below it (of ``device``) are in :data:`ATTRIBUTES`."""
ATTRIBUTES: Final = tuple(sorted(set(re.findall(r"^\s*([a-z_]+)\??:", TEXT, re.MULTILINE))))
"""Every attribute name there is, of entities and of the context."""
VARIABLES: Final = ("action", "context", "principal", "resource")
