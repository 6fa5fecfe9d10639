"""Sealed files: secrets on the disk that open only with a key that is kept elsewhere.

Laws:

1. A sealed file says so itself, and names the entry (a UUID) under which its key is kept; nothing else says it.
2. It opens only with that key, and only for the use it was sealed for: a session's key is never taken for a device's.
3. A file without the mark is read as it is; one that has it opens whole or is refused.

Layout: mark (16 bytes), entry (16), nonce (12), AES-256-GCM ciphertext and tag. Mark, entry and use are authenticated.
Nonces are random: a device seals a few files an hour, far below 2**32 in its life (NIST SP 800-38D, 8.3).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID, uuid4

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certs.errors import StoreError
from certs.secret import Secret

KEY_LENGTH: Final = 32
MARK: Final = b"gloam sealed v1\n"
_NONCE_LENGTH: Final = 12
_HEADER_LENGTH: Final = len(MARK) + 16
_SHORTEST: Final = _HEADER_LENGTH + _NONCE_LENGTH + 16


@dataclass(frozen=True)
class SealingKey:
    """The key of sealed files, and the entry it is kept under."""

    entry: UUID
    key: Secret

    def __post_init__(self) -> None:
        if len(self.key) != KEY_LENGTH:
            msg = f"a sealing key has {KEY_LENGTH} bytes, not {len(self.key)}"
            raise ValueError(msg)

    @classmethod
    def fresh(cls) -> Self:
        """A new random key for a new entry."""
        return cls(uuid4(), Secret.fresh(KEY_LENGTH))

    def seal(self, secret: Secret, use: str) -> bytes:
        """`secret`, sealed for `use` alone."""
        header, nonce = MARK + self.entry.bytes, secrets.token_bytes(_NONCE_LENGTH)
        return header + nonce + AESGCM(self.key.reveal()).encrypt(nonce, secret.reveal(), header + use.encode())

    def open(self, sealed: bytes, use: str) -> Secret:
        """What was sealed for `use` with this key. Raises StoreError."""
        header, nonce = sealed[:_HEADER_LENGTH], sealed[_HEADER_LENGTH : _HEADER_LENGTH + _NONCE_LENGTH]
        if len(sealed) < _SHORTEST or header != MARK + self.entry.bytes:
            raise _damaged(use)
        try:
            sealed = sealed[_HEADER_LENGTH + _NONCE_LENGTH :]
            return Secret(AESGCM(self.key.reveal()).decrypt(nonce, sealed, header + use.encode()))
        except InvalidTag:
            raise _damaged(use) from None


def entry_of(data: bytes) -> UUID | None:
    """The entry that holds the key of a sealed file; None for a file that is not sealed. Raises StoreError."""
    if not data.startswith(MARK):
        return None
    if len(data) < _SHORTEST:
        raise _damaged("file")
    return UUID(bytes=data[len(MARK) : _HEADER_LENGTH])


def no_keyring(entry: UUID) -> SealingKey:
    """Where files are never sealed, the one that is belongs to somebody else."""
    raise StoreError(f"a key here is sealed with entry {entry} of a keyring", "restore the files of this directory")


class Vault:
    """How the private files of one directory are written and read: as they are, or sealed.

    `fetch` gets the key of an entry, and is asked once for each.
    """

    def __init__(self, fetch: Callable[[UUID], SealingKey] = no_keyring, key: SealingKey | None = None) -> None:
        self._fetch = fetch
        self._key = key  # what is written is sealed with it
        self._known = {} if key is None else {key.entry: key}

    def close(self, secret: Secret, use: str) -> bytes:
        """What to write for `secret`."""
        return secret.reveal() if self._key is None else self._key.seal(secret, use)

    def open(self, data: bytes, use: str) -> Secret:
        """The secret that was written as `data`. Raises CertsError."""
        key = self._key_of(data)
        return Secret(data) if key is None else key.open(data, use)

    def follow(self, data: bytes) -> None:
        """From now on writes as `data` was written. Raises CertsError."""
        self._key = self._key_of(data)

    def _key_of(self, data: bytes) -> SealingKey | None:
        entry = entry_of(data)
        if entry is not None and entry not in self._known:
            self._known[entry] = self._fetch(entry)
        return None if entry is None else self._known[entry]


def _damaged(use: str) -> StoreError:
    return StoreError(f"the sealed {use} was changed or belongs elsewhere", "restore it from a backup, or enrol again")
