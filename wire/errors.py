"""What goes wrong on the wire, split by whose fault it is.

`LocalError` is a mistake of the code that called us; `RemoteError` is a peer that broke the protocol, and what it says
is safe to log. `TlsRefused` is a handshake that one of the two ends would not finish.
"""

from dataclasses import dataclass


class WireError(Exception):
    """Anything that goes wrong between two parties."""


class LocalError(WireError):
    """We called something in a way it does not allow: a bug here, never the peer's doing."""


class RemoteError(WireError):
    """The peer broke the protocol; the connection is closed and the event audited."""


class TlsRefused(RemoteError, ConnectionError):  # noqa: N818 (the word of the field: refused, not an error)
    """A TLS connection that came to nothing. `reason` is a code for the audit log, `str()` a sentence for a person.

    It is a `ConnectionError` too, so code that only knows sockets treats it as a connection that failed.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = str(reason)
        self.sentence = sentence

    def __str__(self) -> str:
        """The sentence alone: `OSError` would print its arguments as an errno pair."""
        return self.sentence


class Truncated(RemoteError, ConnectionError):  # noqa: N818 (as above)
    """The peer's bytes stopped without its close_notify: what arrived may not be all it sent."""


@dataclass(frozen=True, slots=True)
class TlsRefusal:
    """A handshake a server refused, as the audit log keeps it.

    `reason` is a code; `sentence` is for people; `source` is the peer's address, `("", 0)` when it had already gone;
    `presented` names the certificate that was refused (its URI names, else its serial number): the leaf, or the
    authority a peer sent along if that is what nobody here trusts; `""` if it showed none. None of it is proven.
    """

    reason: str
    sentence: str
    source: tuple[str, int]
    presented: str
