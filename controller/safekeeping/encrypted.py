"""Files in the age format (age-encryption.org/v1): by a passphrase, or for recipients who have their own identities.

Laws:

1. A new file is 0600, whole on the disk before its name is, and never takes the place of another.
2. What does not open is refused in one line, and nothing of it is given out: a wrong passphrase, a file cut short and a
   changed one look alike, as age does not tell them apart.
3. A passphrase is new only if it is long enough to be guessed for a long time: whoever has the file has that time.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyrage  # type: ignore[import-untyped]
from pyrage import passphrase as by_passphrase
from pyrage import x25519

from certs.secret import Secret
from controller.errors import StorageError

SHORTEST_PASSPHRASE: Final = 12
LARGEST: Final = 4 << 30
"""Bytes of a file that is read: it is decrypted in memory."""
ATTEMPTS: Final = 20
PAUSE: Final = 0.25
"""Seconds between attempts of a machine that is busy: five seconds in all."""
_TOO_MUCH_WORK: Final = "xcessive work"
_HEADER: Final = b"age-encryption.org/v1\n"


@dataclass(frozen=True, slots=True)
class Lock:
    """How a new file is encrypted: by a passphrase, or for recipients (`age1…`)."""

    passphrase: Secret | None = None
    recipients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.passphrase is not None and len(self.passphrase.reveal().decode()) < SHORTEST_PASSPHRASE:
            what = f"the passphrase has fewer than {SHORTEST_PASSPHRASE} characters"
            raise StorageError(what, "take a longer one: whoever has the file may guess as long as they like")
        if (self.passphrase is None) == (not self.recipients):
            raise StorageError("a file is encrypted by a passphrase or for recipients", "give one of the two")
        _recipients(self.recipients)

    def encrypt(self, data: bytes) -> bytes:
        """The age file that holds `data`."""
        if self.passphrase is not None:
            return bytes(by_passphrase.encrypt(data, self.passphrase.reveal().decode()))
        return bytes(pyrage.encrypt(data, _recipients(self.recipients)))


@dataclass(frozen=True, slots=True)
class Key:
    """How a file is opened: its passphrase, or the identity (`AGE-SECRET-KEY-1…`) of a recipient."""

    passphrase: Secret | None = None
    identity: Secret | None = None

    def decrypt(self, data: bytes, what: str) -> bytes:
        """What is in the age file `data`, whose name is `what`. Raises StorageError (law 2)."""
        if not data.startswith(_HEADER):
            raise StorageError(f"{what} is no file in the age format", "name the file that gloam-controller wrote")
        try:
            if self.identity is not None:
                return bytes(pyrage.decrypt(data, [_identity(self.identity)]))
            return _by_passphrase(data, self.passphrase or Secret(b""), what)
        except (pyrage.DecryptError, UnicodeDecodeError):
            fix = "check the passphrase or identity, then take another copy"
            raise StorageError(
                f"{what} does not open: another passphrase, or it was cut short or changed", fix
            ) from None


def _by_passphrase(data: bytes, passphrase: Secret, what: str) -> bytes:
    """Age measures this machine first and refuses what would take it long; a busy one is measured again (ATTEMPTS)."""
    for _ in range(ATTEMPTS):
        try:
            return bytes(by_passphrase.decrypt(data, passphrase.reveal().decode()))
        except pyrage.DecryptError as error:
            if _TOO_MUCH_WORK not in str(error):
                raise
        time.sleep(PAUSE)
    fix = "try again when it is less busy, or on a faster one"
    raise StorageError(f"this machine is too busy or too slow to open {what}", fix)


def read_file(path: Path) -> bytes:
    """The bytes of a file somebody named. Raises StorageError."""
    try:
        if path.stat().st_size > LARGEST:
            raise StorageError(f"{path} is larger than {LARGEST >> 30} GiB", "name the right file")
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from error


def write_new(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Writes a file that was not there (law 1). Raises StorageError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename it fails where there is a file already
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise StorageError(f"{path} exists already", "name a file that does not: nothing is overwritten") from None
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise StorageError(what, "check the directory, its permissions and the free space") from error


def _recipients(named: Sequence[str]) -> list[x25519.Recipient]:
    try:
        return [x25519.Recipient.from_str(each) for each in named]
    except pyrage.RecipientError:
        raise StorageError("a recipient is not one", "it begins with age1; age-keygen makes it") from None


def _identity(text: Secret) -> x25519.Identity:
    lines = [line.strip() for line in text.reveal().decode(errors="replace").splitlines()]
    try:
        return x25519.Identity.from_str(next(line for line in lines if line and not line.startswith("#")))
    except (pyrage.IdentityError, StopIteration):
        raise StorageError(
            "the identity file holds none", "it has a line AGE-SECRET-KEY-1…; age-keygen makes it"
        ) from None
