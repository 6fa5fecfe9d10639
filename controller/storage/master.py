"""The master key: 32 bytes that open every secret in the database.

Laws:

1. It is taken from `GLOAM_MASTER_KEY`, else from the systemd credential `gloam-master-key`, else from `master.key` in
   the state directory (0600). `init` makes the file only if neither of the others is there.
2. It is written as 43 characters of base64url, so that it fits in a password store; anything else is refused.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from certs.errors import StoreError
from certs.secret import Secret
from certs.store import read_private, write_private
from controller.errors import StorageError
from controller.storage.sealing import MASTER_LENGTH

VARIABLE: Final = "GLOAM_MASTER_KEY"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"  # systemd.exec(5)
CREDENTIAL: Final = "gloam-master-key"
FILE: Final = "master.key"
PENDING: Final = "master.key.new"
"""The next key, while the master key is replaced (safekeeping/resealing.py)."""
_TEXT_LENGTH: Final = 43


def load_master_key(state: Path, environ: Mapping[str, str]) -> Secret:
    """The master key of a state directory. Raises StorageError if it is missing, readable by others or none."""
    given = master_key_from_environment(environ)
    if given is not None:
        return given
    path = state / FILE
    if not path.exists():
        raise StorageError(f"the master key {path} is missing", f"put it back from a backup, or set {VARIABLE}")
    return parse_master_key(_read(path), str(path))


def master_key_from_environment(environ: Mapping[str, str]) -> Secret | None:
    """The master key that is handed in from outside the state directory, if one is."""
    if text := environ.get(VARIABLE):
        return parse_master_key(text.encode(), f"the variable {VARIABLE}")
    if directory := environ.get(CREDENTIALS):
        path = Path(directory) / CREDENTIAL
        if path.exists():
            return parse_master_key(path.read_bytes(), f"the credential {path}")
    return None


def pending_master_key(state: Path, environ: Mapping[str, str]) -> Secret | None:
    """The key that a rotation which was stopped meant to be the next, if there is one in the state directory."""
    if master_key_from_environment(environ) is not None or not (state / PENDING).exists():
        return None
    return parse_master_key(_read(state / PENDING), str(state / PENDING))


def finish_pending(state: Path) -> None:
    """The next key is the one that counts: it takes the place of the one before."""
    (state / PENDING).replace(state / FILE)
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_master_key(directory: Path, environ: Mapping[str, str]) -> Secret:
    """A new master key, written to ``directory``; or the one from the environment, which is written nowhere."""
    given = master_key_from_environment(environ)
    if given is not None:
        return given
    key = Secret.fresh(MASTER_LENGTH)
    write_private(directory / FILE, format_master_key(key).encode() + b"\n")
    return key


def format_master_key(key: Secret) -> str:
    """The key as it is written in the file and the environment."""
    return base64.urlsafe_b64encode(key.reveal()).rstrip(b"=").decode()


def _read(path: Path) -> bytes:
    try:
        return read_private(path)
    except StoreError as error:
        raise StorageError(str(error), error.fix) from error


def parse_master_key(text: bytes, where: str) -> Secret:
    """The key that is written in `text`. Raises StorageError, which says `where`."""
    try:
        stripped = text.strip()
        key = base64.b64decode(stripped + b"=", altchars=b"-_", validate=True)
        if len(stripped) == _TEXT_LENGTH and len(key) == MASTER_LENGTH:
            return Secret(key)
    except (ValueError, binascii.Error):
        pass
    raise StorageError(
        f"{where} holds no master key", f"it must be {_TEXT_LENGTH} characters of base64url: put it back"
    )
