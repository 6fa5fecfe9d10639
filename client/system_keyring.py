"""The system's keyring, where a device's sealing key lives by choice (`gloam enrol --keyring`); see certs/sealing.py.

Laws:

1. Only a keyring the library itself recommends counts (priority 1 and above): none that fails, forgets, or keeps plain
   files.
2. Every refusal says what helps, and repeats nothing a backend said: that could be anything.
3. The keyring may ask its owner to unlock it, so it is given time, but not for ever.
"""

import contextlib
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from certs.errors import CertsError
from certs.sealing import KEY_LENGTH, SealingKey
from certs.secret import Secret

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

T = TypeVar("T")

SERVICE: Final = "gloam"
PATIENCE: Final = 120.0
"""Seconds for somebody to type the keyring's password."""
_LOCKED: Final = frozenset({"LockedException", "PromptDismissedException"})
"""How SecretStorage, below the library, says that a keyring is locked."""
_INSTALL: Final = "run one: gnome-keyring, KWallet or another Secret Service, in a D-Bus session"
_ENROL: Final = "ask for a new invite and run gloam enrol --replace -"


class KeyringError(CertsError):
    """The system's keyring does not give or take the key; `fix` says what helps."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class KeyLostError(KeyringError):
    """There is no such key, and waiting or unlocking brings none."""


def store() -> SealingKey:
    """A new sealing key, kept in the keyring and read back. Raises KeyringError."""
    made = SealingKey.fresh()
    text = b64encode(made.key.reveal()).decode()
    where_none = f"{_INSTALL}; or enrol without --keyring"
    _ask(lambda keyring: keyring.set_password(SERVICE, str(made.entry), text), where_none)
    if fetch(made.entry) != made:
        raise KeyringError("the system's keyring gives back another key than it got", "enrol without --keyring")
    return made


def fetch(entry: UUID) -> SealingKey:
    """The sealing key of an entry. Raises KeyringError."""
    text = _ask(lambda keyring: keyring.get_password(SERVICE, str(entry)), f"{_INSTALL}; or {_ENROL}")
    if text is None:
        raise KeyLostError(f"the system's keyring has no entry {entry} of {SERVICE} any more", _ENROL)
    with contextlib.suppress(ValueError):
        key = b64decode(text, validate=True)
        if len(key) == KEY_LENGTH:
            return SealingKey(entry, Secret(key))
    raise KeyLostError(f"entry {entry} of {SERVICE} in the system's keyring holds no key of ours", _ENROL)


def forget(entry: UUID) -> None:
    """Removes an entry that nothing needs any more, if the keyring lets us."""
    with contextlib.suppress(CertsError):
        _ask(lambda keyring: keyring.delete_password(SERVICE, str(entry)), "")


def _ask(question: Callable[["KeyringBackend"], T], where_none: str) -> T:
    """The keyring's answer, in time. Raises KeyringError."""
    library = _library()
    answers: list[T] = []
    problems: list[Exception] = []

    def work() -> None:
        try:
            answers.append(question(_usable(library, where_none)))
        except Exception as error:  # noqa: BLE001 - a backend may raise anything
            problems.append(error)

    thread = threading.Thread(target=work, name="keyring", daemon=True)  # it must not keep the process alive
    thread.start()
    thread.join(PATIENCE)
    if answers:
        return answers[0]
    if not problems:
        raise KeyringError(f"the system's keyring did not answer in {PATIENCE:.0f} s", "unlock it and try again")
    raise _refusal(problems[0], library)


def _library() -> ModuleType:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        what = "the library for the system's keyring is not installed"
        fix = "add gloam's extra keyring to its environment: pip install 'keyring>=25.6,<26'"
        raise KeyringError(what, fix) from None
    return keyring


def _usable(library: ModuleType, where_none: str) -> "KeyringBackend":
    backend: KeyringBackend | None = None
    with contextlib.suppress(Exception):  # a keyring that cannot say how good it is, is none
        backend = library.get_keyring()
        if backend is not None and backend.priority >= 1:
            return backend
    name = "none" if backend is None else f"{type(backend).__module__}.{type(backend).__qualname__}"
    raise KeyLostError(f"there is no system keyring that can be used (found: {name})", where_none)


def _refusal(error: Exception, library: ModuleType) -> KeyringError:
    if isinstance(error, KeyringError):
        return error
    if isinstance(error, library.errors.KeyringLocked) or type(error).__name__ in _LOCKED:
        return KeyringError("the system's keyring is locked", "unlock it and try again")
    what = f"the system's keyring refuses ({type(error).__name__})"
    return KeyringError(what, "look whether it runs and is unlocked, and try again")
