"""What can go wrong between a knock and an open door.

Errors an operator or a user may read know what to do about it (``.fix``). A refused knock is not an error but a value
(`Drop`): nobody outside ever learns of it.
"""

from enum import StrEnum


class DropReason(StrEnum):
    """Why a datagram opened nothing, in the order of the checks (docs/protocol, Admission)."""

    LENGTH = "length"
    LOCATOR = "locator"
    OPEN = "open"
    VERSION = "version"
    KIND = "kind"
    FLAGS = "flags"
    RESERVED = "reserved"
    TRAILING = "trailing"
    SESSION = "session"
    OLD_TIME = "old_time"
    BEFORE_START = "before_start"
    CLOCK_SKEW = "clock_skew"
    KIND_NOT_ALLOWED = "kind_not_allowed"
    PORT = "port"
    LEASE = "lease"
    SOURCE = "source"


class SpaError(Exception):
    """Anything this package refuses; ``fix`` says what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class PacketError(SpaError):
    """Bytes that are not a knock; ``reason`` says at which check they fell."""

    def __init__(self, reason: DropReason) -> None:
        super().__init__(f"not a knock: {reason}", "update the client: it speaks another protocol")
        self.reason = reason


class DoorError(SpaError):
    """A door that cannot be put up as asked."""


class CloakError(SpaError):
    """A cloak that does not work here, or no longer."""


class Unreachable(SpaError, ConnectionError):  # noqa: N818 - reads as what it is
    """No connection within the deadline. ``seen`` is what the attempts met: ``refused``, ``silent`` or ``no_route``.

    It is a `ConnectionError` too, so code that only knows sockets treats it as a connection that failed.
    """

    def __init__(self, what: str, fix: str, seen: str) -> None:
        super().__init__(what, fix)
        self.what = what
        self.seen = seen

    def __str__(self) -> str:
        """The sentence alone: `OSError` would print its arguments as an errno pair."""
        return self.what
