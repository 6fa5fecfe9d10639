"""Files: private keys, public certificates, identities and the directory that holds them.

Laws:

1. A private file is 0600 and ours; a wider one is refused with the command that mends it, never read.
2. A file is replaced whole: temporary file in the same directory, fsync, rename, fsync of the directory.
3. An identity is two files, and the certificate decides which key counts. Saving writes the new key beside the old
   one (``LABEL.key.new``), then renames the certificate, which is the one moment of change, then the key. A crash at
   any point leaves the old identity or the new one, and loading never writes.
4. Savers exclude each other by a lock on the directory; loaders need none.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from cryptography import x509

from certs.errors import BadCertificate, MissingFileError, StoreError
from certs.identity import Identity
from certs.names import parse_label
from certs.profile import readable
from certs.sealing import Vault
from certs.trust import Trust

__all__ = [
    "Identity",
    "IdentityStore",
    "Trust",
    "check_state_directory",
    "make_state_directory",
    "read_private",
    "write_private",
    "write_public",
]

PRIVATE: Final = 0o600
PUBLIC: Final = 0o644
LARGEST_FILE: Final = 1024 * 1024  # bytes: keys and chains are a few KiB; a device file or a log is a mistake
_ATTEMPTS: Final = 20  # a load that races one save succeeds at the second; more are for saves one after another


def make_state_directory(path: Path) -> None:
    """Makes ``path`` with mode 0700, or checks that it is a directory of ours that nobody else may enter."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except FileExistsError as error:
        raise StoreError(f"{path} is not a directory", "name another state directory with --state DIR") from error
    except OSError as error:
        raise _unusable(path, error) from error
    _check_directory(path, status)


def check_state_directory(path: Path) -> None:
    """Refuses a directory that is missing, not ours, or that others may enter; changes nothing."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise MissingFileError(path) from error
    except OSError as error:
        raise _unusable(path, error) from error
    _check_directory(path, status)


def write_private(path: Path, data: bytes) -> None:
    """Replaces ``path`` with ``data``, readable by its owner only."""
    _write(path, data, PRIVATE)


def write_public(path: Path, data: bytes) -> None:
    """Replaces ``path`` with ``data``, readable by everyone who reaches it."""
    _write(path, data, PUBLIC)


def read_private(path: Path) -> bytes:
    """The contents of a private file; :class:`StoreError` if others may read it, or it is no plain file of ours."""
    return _read(path, private=True)


class IdentityStore:
    """The identities kept in one directory, each under a label (``controller``, ``device``, ``session``).

    ``vault`` writes and reads their private keys.
    """

    def __init__(self, directory: Path, vault: Vault | None = None) -> None:
        self.directory = directory
        self._vault = vault or Vault()

    def save(self, label: str, identity: Identity) -> None:
        """Replaces the identity under ``label``; returns when it is on the disk."""
        parse_label(label, "label")
        try:
            with _locked(self.directory):
                for _step in self._replace(label, identity):
                    pass
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def load(self, label: str) -> Identity:
        """The identity under ``label``; :class:`StoreError` if there is none or it is damaged."""
        parse_label(label, "label")
        key, pending, chain = self._paths(label)
        problem = "its key is missing"
        for _attempt in range(_ATTEMPTS):
            chain_pem = _read(chain, private=False)
            for path in (key, pending):
                try:
                    return Identity.from_pem(self._vault.open(read_private(path), _use(label)), chain_pem)
                except BadCertificate as error:
                    problem = str(error)
                except MissingFileError:
                    continue
        raise StoreError(f"the identity in {chain} is damaged: {problem}", "restore it from a backup, or enrol again")

    def leaf(self, label: str) -> x509.Certificate:
        """The certificate under ``label``, without its key."""
        parse_label(label, "label")
        with readable(f"the certificate of {label}"):
            return x509.load_pem_x509_certificates(_read(self._paths(label)[-1], private=False))[0]

    def exists(self, label: str) -> bool:
        """Whether an identity was saved under ``label``."""
        parse_label(label, "label")
        return self._paths(label)[-1].exists()

    def remove(self, label: str) -> None:
        """Forgets the identity under ``label``, if there is one; the certificate goes first, then its keys."""
        parse_label(label, "label")
        try:
            with _locked(self.directory):
                for path in reversed(self._paths(label)):
                    path.unlink(missing_ok=True)
                _sync_directory(self.directory)
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def _paths(self, label: str) -> tuple[Path, Path, Path]:
        names = (f"{label}.key", f"{label}.key.new", f"{label}.pem")
        key, pending, chain = (self.directory / name for name in names)
        return key, pending, chain

    def _replace(self, label: str, identity: Identity) -> Iterator[str]:
        """The durable steps of a save, one at a time, so that a test can stop after each."""
        key, pending, chain = self._paths(label)
        if self._counts(label, pending, chain):
            # An earlier save stopped before its last step: its key must not be overwritten by ours below.
            pending.replace(key)
            _sync_directory(self.directory)
            yield "recovered"
        write_private(pending, self._vault.close(identity.key, _use(label)))
        yield "key written"
        write_public(chain, identity.chain_pem)
        yield "certificate changed"
        pending.replace(key)
        _sync_directory(self.directory)
        yield "key renamed"

    def _counts(self, label: str, key: Path, chain: Path) -> bool:
        """Whether ``key`` is the key of the certificate in ``chain``."""
        if not (key.exists() and chain.exists()):
            return False
        try:
            Identity.from_pem(self._vault.open(read_private(key), _use(label)), _read(chain, private=False))
        except BadCertificate:
            return False
        return True


def _use(label: str) -> str:
    """What the key of an identity is sealed for."""
    return f"{label} key"


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        _sync_directory(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error


def _read(path: Path, *, private: bool) -> bytes:
    try:
        # O_NONBLOCK: opening a pipe somebody left here must not wait for its writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"{path} is not a plain file", "remove it and restore the file it replaced")
            if private:
                _check_owner(path, status)
                if status.st_mode & 0o077:
                    raise StoreError(f"{path} may be read by others than its owner", f"run chmod 600 {path}")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(LARGEST_FILE + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise MissingFileError(path) from error
    except OSError as error:
        raise _unusable(path, error) from error
    if len(data) > LARGEST_FILE:
        raise StoreError(f"{path} is longer than {LARGEST_FILE} bytes", "restore the file from a backup")
    return data


def _check_directory(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(f"{path} is not a directory", "name another state directory with --state DIR")
    _check_owner(path, status)
    if status.st_mode & 0o077:
        raise StoreError(f"{path} may be entered by others than its owner", f"run chmod 700 {path}")


def _check_owner(path: Path, status: os.stat_result) -> None:
    """Root may use what belongs to others; everybody else only what is theirs."""
    user = os.geteuid()
    if user not in {0, status.st_uid}:
        raise StoreError(f"{path} belongs to another user", f"run chown {user} {path}, or run as its owner")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be used: {error.strerror}", "check the path, its permissions and the free space")
