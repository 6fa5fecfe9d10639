"""Backup codes, for when the authenticator is out of reach (pure).

Laws:

1. There are ten; they are shown once, when they are made, and each counts once.
2. A code has 80 bits, so its hash is one SHA-256: nobody finds the code from it by trying. The owner is hashed too, so
   that nobody looks for the codes of many at once.
3. People mix up letters and digits: the alphabet is Crockford's, which has no such pairs; what they type is read so.
"""

import hashlib
import re
import secrets
from typing import Final
from uuid import UUID

COUNT: Final = 10
LENGTH: Final = 16  # characters of 5 bits
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_GROUP: Final = 4
_READ_AS: Final = str.maketrans({"o": "0", "i": "1", "l": "1"})
_SPACES: Final = re.compile(r"[\s-]")
_CODE: Final = re.compile(rf"\A[{_ALPHABET}]{{{LENGTH}}}\Z")


def new_codes() -> tuple[str, ...]:
    """Ten new codes as they are shown: `k3vq-8m2d-…`."""
    return tuple(_new_code() for _ in range(COUNT))


def read(typed: str) -> str | None:
    """The code in what a person typed; None if it is none."""
    code = _SPACES.sub("", typed).lower().translate(_READ_AS)
    return code if _CODE.match(code) else None


def digest(user: UUID, code: str) -> bytes:
    """What is stored of a code that was `read`."""
    return hashlib.sha256(b"gloam backup code v1" + user.bytes + code.encode()).digest()


def _new_code() -> str:
    code = "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH))
    return "-".join(code[at : at + _GROUP] for at in range(0, LENGTH, _GROUP))
