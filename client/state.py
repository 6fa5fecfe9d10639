"""The client's state directory: the only module that knows its file names.

Laws:

1. An enrolment, or a renewal, is whole or not at all (`certs.staging`): `profile`, which everybody reads first,
   finishes what a crash left.
2. Keys and the knock secret are 0600 and the directory 0700 (`certs.store` refuses anything wider).
3. Session files exist only while a session does.
4. By choice (`gloam enrol --keyring`) keys and the knock secret are sealed, with a key that is in the system's keyring
   alone. What follows, a renewal or a session, is sealed as the device was (`certs.sealing`).
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

from pydantic import ValidationError

from certs.errors import StoreError
from certs.names import Name, Purpose
from certs.profile import renewal_due
from certs.sealing import SealingKey, Vault, entry_of
from certs.secret import Secret
from certs.staging import Staging
from certs.store import (
    Identity,
    IdentityStore,
    Trust,
    check_state_directory,
    make_state_directory,
    read_private,
    write_private,
    write_public,
)
from client.clock import Clock
from client.profile import ClockCorrection, Ended, Profile
from client.system_keyring import fetch
from console.errors import CommandError, ExitCode
from wire.messages import Message

DEVICE: Final = "device"
SESSION: Final = "session"
KNOCK_USE: Final = "knock secret"

M = TypeVar("M", bound=Message)


class ClientState:
    """What one enrolled device keeps. Several directories are several devices, even on one machine."""

    def __init__(self, directory: Path, vault: Vault | None = None) -> None:
        self.directory = directory
        self.config = directory / "config.toml"
        self.agent_socket = directory / "agent.sock"
        self.agent_lock = directory / "agent.lock"
        self.agent_log = directory / "agent.log"
        self.proxy_authorities = directory / "proxy-ca.pem"
        self._profile = directory / "profile.json"
        self._trust = directory / "trust.pem"
        self._knock_secret = directory / "knock.secret"
        self._clock = directory / "clock.json"
        self._ended = directory / "ended.json"
        self._vault = vault or Vault(fetch)
        self._identities = IdentityStore(directory, self._vault)
        self._trusted: tuple[tuple[int, int], Trust] | None = None  # as read, and from which file
        files = (self._trust, self._knock_secret)
        names = (*(path.name for path in files), f"{DEVICE}.key", f"{DEVICE}.pem", self._clock.name, self._profile.name)
        self._staging = Staging(directory, "enrolment", names)

    # Enrolment ---------------------------------------------------------------------------------------------------

    @property
    def enrolled(self) -> bool:
        """Whether this directory holds a device."""
        return self._profile.exists() or self._staging.pending

    def profile(self) -> Profile:
        """Who this device is. Raises CommandError where nothing is enrolled."""
        if not self.enrolled:
            raise CommandError(
                f"this device is not enrolled (nothing in {self.directory})",
                "ask the administrator for an invite and run gloam enrol INVITE, or name another --state DIR",
            )
        check_state_directory(self.directory)
        self._staging.finish()
        return self._required(Profile, self._profile)

    def save_enrolment(
        self,
        profile: Profile,
        identity: Identity,
        trust: Trust,
        knock_secret: Secret,
        clock: Clock,
        *,
        sealing: SealingKey | None = None,
    ) -> None:
        """Makes this directory a device, whole or not at all; the caller keeps others from doing the same.

        `sealing`: what keys and the knock secret are sealed with.
        """
        self.make()
        # The same names, one directory further down.
        new = ClientState(self._staging.begin(), Vault(fetch, sealing))
        new.write_device(identity, trust, knock_secret)
        new.save_clock(clock)
        write_private(new._profile, profile.model_dump_json(indent=2).encode())
        self.forget_session()
        self._ended.unlink(missing_ok=True)
        self._staging.commit()

    def save_renewal(self, identity: Identity, trust: Trust, knock_secret: Secret) -> None:
        """The device's next key, certificate, trust and knock secret, whole or not at all; the caller keeps others out.

        Raises CommandError if this directory is another device by now.
        """
        if self.profile().name != identity.name:
            raise CommandError("this directory is another device now", "nothing is to be done")
        self.unlock()
        ClientState(self._staging.begin(), self._vault).write_device(identity, trust, knock_secret)
        self._staging.commit()

    def write_device(self, identity: Identity, trust: Trust, knock_secret: Secret) -> None:
        """Writes what changes at a renewal, file by file: for a directory nobody reads yet."""
        write_public(self._trust, trust.to_pem())
        write_private(self._knock_secret, self._vault.close(knock_secret, KNOCK_USE))
        self._identities.save(DEVICE, identity)

    def save_owner(self, user: str) -> None:
        """Notes whose this device has become, if it was nobody's."""
        profile = self.profile()
        if not profile.user:
            owned = profile.model_copy(update={"user": user})
            write_private(self._profile, owned.model_dump_json(indent=2).encode())

    def make(self) -> None:
        """Makes the directory, 0700; refuses one that others may enter."""
        make_state_directory(self.directory)

    def device(self) -> Identity:
        """The device's key and certificate."""
        return self._identities.load(DEVICE)

    def certified(self) -> tuple[datetime, datetime]:
        """When the device's certificate ends, and when it is due to be renewed."""
        leaf = self._identities.leaf(DEVICE)
        return leaf.not_valid_after_utc, renewal_due(leaf, Purpose.DEVICES)

    def trust(self) -> Trust:
        """What this device believes."""
        status = self._trust.stat()
        file = (status.st_ino, status.st_mtime_ns)
        if self._trusted is None or self._trusted[0] != file:
            self._trusted = (file, Trust.from_pem(self._trust.read_bytes()))
        return self._trusted[1]

    def update_trust(self, pem: str) -> None:
        """Believes this from now on. Raises BadCertificate for a bundle whose root is not the one pinned here."""
        held = self.trust()
        new = held.succeeded_by(pem.encode())
        if new != held:
            write_public(self._trust, new.to_pem())

    def knock_secret(self) -> Secret:
        """What this device's knocks are keyed with."""
        return self._vault.open(read_private(self._knock_secret), KNOCK_USE)

    @property
    def keyring_entry(self) -> UUID | None:
        """The entry of the system's keyring that opens this device's keys; None where they are not sealed."""
        return entry_of(read_private(self._knock_secret))

    def unlock(self) -> None:
        """Gets what opens this device's keys, once a process, if they are sealed. Raises KeyringError, StoreError."""
        self._vault.follow(read_private(self._knock_secret))

    # The session -------------------------------------------------------------------------------------------------

    @property
    def logged_in(self) -> bool:
        """Whether there is a session here, without opening its key."""
        return self._identities.exists(SESSION)

    def session(self) -> Identity | None:
        """The key and certificate of the session, while there is one."""
        if not self._identities.exists(SESSION):
            return None
        with contextlib.suppress(StoreError):
            return self._identities.load(SESSION)
        # The agent may have removed it between the two looks; if it is still there, the error is real.
        return self._identities.load(SESSION) if self._identities.exists(SESSION) else None

    def save_session(self, identity: Identity) -> None:
        """Replaces the session's key and certificate in one step."""
        self.unlock()
        self._identities.save(SESSION, identity)

    def forget_session(self) -> None:
        """Removes the session's key and certificate."""
        self._identities.remove(SESSION)

    def session_files(self) -> tuple[Path, Path]:
        """The certificate and the key, for programs that want paths (curl)."""
        return self.directory / f"{SESSION}.pem", self.directory / f"{SESSION}.key"

    def ended(self) -> Ended | None:
        """Why the last session ended, if nothing came after it."""
        return self._optional(Ended, self._ended)

    def save_ended(self, ended: Ended | None) -> None:
        """Remembers why the session ended; None forgets it."""
        if ended is None:
            self._ended.unlink(missing_ok=True)
        else:
            write_private(self._ended, ended.model_dump_json().encode())

    # The clock ---------------------------------------------------------------------------------------------------

    def clock(self) -> Clock:
        """This machine's clock, with the correction last learnt."""
        return Clock(self._optional(ClockCorrection, self._clock) or ClockCorrection())

    def save_clock(self, clock: Clock) -> None:
        """Keeps the correction for the next process."""
        write_private(self._clock, clock.correction.model_dump_json().encode())

    # Files -------------------------------------------------------------------------------------------------------

    def _required(self, model: type[M], path: Path) -> M:
        try:
            return model.model_validate_json(read_private(path))
        except ValidationError as error:
            fix = "restore it from a backup, or enrol again"
            raise CommandError(f"{path} is damaged", fix, ExitCode.FAILED) from error

    @staticmethod
    def _optional(model: type[M], path: Path) -> M | None:
        """The value, or None: what these files say helps, but nothing depends on it."""
        try:
            return model.model_validate_json(read_private(path))
        except (StoreError, ValidationError):
            return None


def session_id(identity: Identity) -> str:
    """The session a session certificate is for."""
    name: Name = identity.name
    return name.id


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Holds the lock file `path`; False if another process does. The lock goes with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
