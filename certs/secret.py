"""Bytes that must not leak: keys, knock secrets, passwords in transit.

Laws:

1. Only :meth:`Secret.reveal` gives the bytes; ``repr``, ``str``, formatting and logging never do.
2. Two secrets are compared in constant time (variable time was Tailscale TS-2025-003).
3. A secret cannot be hashed or pickled: both would carry it somewhere nobody looks.
"""

import hmac
import secrets
from typing import ClassVar, Final, NoReturn, Self

FRESH_LENGTH: Final = 32  # 256 bits: what HKDF-SHA256 can use in full


class Secret:
    """``Secret(b"…")``, opened again with ``.reveal()``."""

    __slots__ = ("_value",)
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes | bytearray | memoryview):
            msg = f"a Secret holds bytes, not {type(value).__name__}"
            raise TypeError(msg)
        self._value = bytes(value)

    @classmethod
    def fresh(cls, length: int = FRESH_LENGTH) -> Self:
        """A new random secret of ``length`` bytes from the system's generator."""
        return cls(secrets.token_bytes(length))

    def reveal(self) -> bytes:
        """The bytes themselves; keep them as briefly as possible."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        msg = "a Secret is never pickled"
        raise TypeError(msg)
