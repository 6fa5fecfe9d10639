"""Passwords at rest and at login.

Laws:

1. Stored as argon2id (RFC 9106); a hash made with weaker parameters than today's is replaced at the next login.
2. Verifying takes the same time whether or not there is a password to compare with: without one, a decoy is verified.
3. Hashing runs in a few threads of its own, and only so many may wait: a storm of logins is told to come again, while
   everything else the controller does goes on.
4. What cannot match has one thread and a short queue of its own: it never stands before what can.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from controller.errors import Refused
from controller.identity.strength import Weak, weakness

T = TypeVar("T")

MEMORY_KIB: Final = 65_536  # RFC 9106 section 4, the second recommended option: 64 MiB, three passes
PASSES: Final = 3
LANES: Final = 1  # one thread a hash, so that AT_ONCE bounds the processors a storm can take
AT_ONCE: Final = max(1, (os.cpu_count() or 2) // 2)
WAITING: Final = 64
"""Logins that may wait for a thread: at about 0.1 s each, the last waits some seconds, which a person still does."""
DECOYS_WAITING: Final = 8
LONGEST: Final = 1024  # characters, as the login message allows


class Busy(Exception):  # noqa: N818 - reads as what it is
    """More logins are waiting than can be answered in time."""


@dataclass(frozen=True, slots=True)
class Checked:
    """`rehash` is the new hash to store, if the stored one is of another time."""

    matches: bool
    rehash: str | None = None


class Passwords:
    """Hashes and verifies; `close` ends its threads."""

    def __init__(self, hasher: PasswordHasher | None = None, *, at_once: int = AT_ONCE, waiting: int = WAITING) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._room = at_once + waiting
        self._decoys = ThreadPoolExecutor(1, thread_name_prefix="argon2-decoy")
        self._decoy_room = 1 + DECOYS_WAITING
        self._decoy = self._hasher.hash(os.urandom(16).hex())

    async def hash(self, password: str) -> str:
        """What to store for `password`."""
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def hash_new(self, password: str, *known: str) -> str:
        """What to store for a password somebody chose, given names that a guesser knows. Raises Refused, Busy."""

        def hashed() -> str | Weak:
            return weakness(password, known) or self._hasher.hash(password)

        if not 0 < len(password) <= LONGEST:
            raise Refused("bad_password", f"a password has 1 to {LONGEST} characters", "choose another one")
        made = await self._in_thread(hashed)
        if isinstance(made, Weak):
            raise Refused("weak_password", made.why, made.fix)
        return made

    async def check(self, stored: str | None, password: str) -> Checked:
        """Whether `password` is the one `stored`. None, for nobody or no password, matches nothing, as slowly.

        Raises Busy when too many are waiting.
        """
        return await self._in_thread(lambda: self._check(stored, password))

    async def decline(self, password: str) -> None:
        """Takes as long as `check`, for what matches nothing. Raises Busy when too many are waiting."""
        if self._decoy_room <= 0:
            raise Busy
        self._decoy_room -= 1
        try:
            await asyncio.wrap_future(self._decoys.submit(self._check, None, password))
        finally:
            self._decoy_room += 1

    def close(self) -> None:
        """Waits for the hashes being made and ends the threads."""
        for threads in (self._threads, self._decoys):
            threads.shutdown(wait=True, cancel_futures=True)

    def _check(self, stored: str | None, password: str) -> Checked:
        try:
            self._hasher.verify(self._decoy if stored is None else stored, password)
        except (VerificationError, InvalidHashError):
            return Checked(matches=False)
        if stored is None:
            return Checked(matches=False)
        rehash = self._hasher.hash(password) if self._hasher.check_needs_rehash(stored) else None
        return Checked(matches=True, rehash=rehash)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._room <= 0:
            raise Busy
        self._room -= 1
        try:
            future = self._threads.submit(work)
            return await asyncio.wrap_future(future)
        finally:
            self._room += 1
