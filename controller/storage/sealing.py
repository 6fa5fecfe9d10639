"""Sealing: secrets in the database are readable only with the master key.

Laws:

1. A sealed value opens only under the context it was sealed for (its row and column, ``device/UUID/knock``): the
   context is authenticated with it, so a value copied into another row does not open.
2. Every key in use is derived from the master key under a label of its own; the master key itself encrypts nothing.
3. A sealed value names the key that sealed it, so that a wrong master key is told apart from a damaged value.

Layout: version (1 byte, 1), key id (4), nonce (12), AES-256-GCM ciphertext and tag. Nonces are random: 2**32 seals
under one key keep a collision below 2**-32 (NIST SP 800-38D, 8.3), which is more than any perimeter makes.
"""

import secrets
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certs.secret import Secret
from controller.errors import SealError

MASTER_LENGTH: Final = 32
_VERSION: Final = b"\x01"
_KEY_ID_LENGTH: Final = 4
_NONCE_LENGTH: Final = 12
_HEADER_LENGTH: Final = 1 + _KEY_ID_LENGTH + _NONCE_LENGTH
_SHORTEST: Final = _HEADER_LENGTH + 16


class Sealer:
    """Seals and opens secrets; made from the 32-byte master key."""

    __slots__ = ("_aead", "_key_id", "_master")

    def __init__(self, master: Secret) -> None:
        if len(master) != MASTER_LENGTH:
            msg = f"a master key has {MASTER_LENGTH} bytes, not {len(master)}"
            raise ValueError(msg)
        self._master = master
        self._aead = AESGCM(self.derive("gloam sealing v1").reveal())
        self._key_id = self.derive("gloam sealing key id v1").reveal()[:_KEY_ID_LENGTH]

    @classmethod
    def fresh(cls) -> Self:
        """A sealer with a new random master key."""
        return cls(Secret.fresh(MASTER_LENGTH))

    def derive(self, label: str) -> Secret:
        """The 32-byte key for one use, named by ``label``."""
        return Secret(HKDF(SHA256(), 32, None, label.encode()).derive(self._master.reveal()))

    @property
    def master(self) -> Secret:
        """The master key itself: for a backup, which holds it."""
        return self._master

    @property
    def fingerprint(self) -> str:
        """What a database keeps to recognise its master key; says nothing about it."""
        return self.derive("gloam master key check v1").reveal().hex()

    def seal(self, secret: Secret, context: str) -> bytes:
        """``secret``, sealed for ``context`` alone."""
        header = _VERSION + self._key_id
        nonce = secrets.token_bytes(_NONCE_LENGTH)
        return header + nonce + self._aead.encrypt(nonce, secret.reveal(), header + context.encode())

    def open(self, sealed: bytes, context: str) -> Secret:
        """What was sealed for ``context``. Raises SealError if it was not, or not with this master key."""
        if len(sealed) < _SHORTEST or sealed[:1] != _VERSION:
            raise _damaged(context)
        header, nonce = sealed[: 1 + _KEY_ID_LENGTH], sealed[1 + _KEY_ID_LENGTH : _HEADER_LENGTH]
        if header[1:] != self._key_id:
            raise SealError(
                f"the secret {context} was sealed with another master key", "use the master key it was sealed with"
            )
        try:
            return Secret(self._aead.decrypt(nonce, sealed[_HEADER_LENGTH:], header + context.encode()))
        except InvalidTag:
            raise _damaged(context) from None


def _damaged(context: str) -> SealError:
    return SealError(
        f"the sealed secret {context} was changed or belongs elsewhere", "restore the database from a backup"
    )
