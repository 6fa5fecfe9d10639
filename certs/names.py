"""Names: who a certificate speaks for.

Laws:

1. A name is a SPIFFE ID of exactly two path segments, ``spiffe://DOMAIN/KIND/ID``; nothing is normalised, so two
   different texts are never the same name.
2. The kind decides the purpose, and so the one intermediate that may sign it. An unknown kind is not a name.
3. A :class:`Name` that exists is valid: construction checks what parsing checks.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, assert_never

from certs.errors import BadName

LABEL: Final = re.compile(r"\A[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
"""A DNS label in lowercase; names of controllers, gateways, resources, groups. The pattern anchors itself."""

UUID_TEXT: Final = re.compile(r"\A[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
LONGEST_DOMAIN: Final = 253  # RFC 1035, as text without the final dot
SCHEME: Final = "spiffe://"
LONGEST_URI: Final = 2048  # SPIFFE-ID section 2.3: what every implementation must accept
_SEGMENTS: Final = 3  # domain, kind, id
_SHOWN: Final = 80


class Purpose(StrEnum):
    """What an intermediate may sign; a verifier trusts only the purposes it needs."""

    SERVICES = "services"
    DEVICES = "devices"
    SESSIONS = "sessions"


class NameKind(StrEnum):
    """Who there is to name."""

    CONTROLLER = "controller"
    GATEWAY = "gateway"
    DEVICE = "device"
    SESSION = "session"

    @property
    def purpose(self) -> Purpose:
        """The purpose whose intermediate signs names of this kind."""
        match self:
            case NameKind.CONTROLLER | NameKind.GATEWAY:
                return Purpose.SERVICES
            case NameKind.DEVICE:
                return Purpose.DEVICES
            case NameKind.SESSION:
                return Purpose.SESSIONS
            case _ as never:  # pragma: no cover
                assert_never(never)


def parse_label(text: str, what: str) -> str:
    """``text`` if it is a label, else :class:`BadName` naming ``what`` ("resource name", "group", …)."""
    if not LABEL.match(text):
        msg = (
            f"{_shown(text)} is not a {what}: 1 to 63 lowercase letters, digits and hyphens, "
            "beginning and ending with a letter or digit"
        )
        raise BadName(msg)
    return text


def parse_domain(text: str) -> str:
    """``text`` if it is a trust domain (lowercase labels joined by dots), else :class:`BadName`."""
    if len(text) > LONGEST_DOMAIN or not all(LABEL.match(label) for label in text.split(".")):
        msg = f"{_shown(text)} is not a trust domain: lowercase labels joined by dots, as in example.test"
        raise BadName(msg)
    return text


@dataclass(frozen=True, slots=True, order=True)
class Name:
    """One party: ``Name("example.test", NameKind.GATEWAY, "edge")``; ``str()`` gives the SPIFFE ID."""

    domain: str
    kind: NameKind
    id: str

    def __post_init__(self) -> None:
        parse_domain(self.domain)
        match self.kind:
            case NameKind.CONTROLLER | NameKind.GATEWAY:
                parse_label(self.id, f"{self.kind} name")
            case NameKind.DEVICE | NameKind.SESSION:
                if not UUID_TEXT.match(self.id):
                    msg = f"{_shown(self.id)} is not a {self.kind} id: a UUID in lowercase"
                    raise BadName(msg)
            case _ as never:  # pragma: no cover
                assert_never(never)

    @property
    def purpose(self) -> Purpose:
        """The purpose whose intermediate signs this name."""
        return self.kind.purpose

    @classmethod
    def parse(cls, uri: str) -> Self:
        """The name a SPIFFE ID spells; :class:`BadName` for anything else."""
        parts = uri.removeprefix(SCHEME).split("/") if len(uri) <= LONGEST_URI else []
        if not uri.startswith(SCHEME) or len(parts) != _SEGMENTS:
            msg = f"{_shown(uri)} is not a name: spiffe://DOMAIN/KIND/ID"
            raise BadName(msg)
        domain, kind, identifier = parts
        try:
            known = NameKind(kind)
        except ValueError:
            msg = f"{_shown(kind)} is not a kind of name: controller, gateway, device or session"
            raise BadName(msg) from None
        return cls(domain, known, identifier)

    def __str__(self) -> str:
        return f"{SCHEME}{self.domain}/{self.kind}/{self.id}"


def _shown(text: str) -> str:
    """``text`` as an error may show it: quoted, escaped and short, for it may come from a stranger."""
    shown = ascii(text[: _SHOWN + 1])
    return shown if len(shown) <= _SHOWN + 2 else f"{shown[:_SHOWN]}...{shown[-1]}"  # cut once more: escapes are long
