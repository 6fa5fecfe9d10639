"""How fast somebody may guess: whose wrong guesses are counted together, and how long they make whom wait (pure).

Laws:

1. Only its owner can log in on a device. What an account's own devices get wrong is counted for each device alone; what
   other devices get wrong is counted for the device, the account and the source, and no own device ever waits for it.
   So whoever holds none of a person's devices can neither guess at their account nor lock them out of it.
2. The first `FREE` refusals in a row cost nothing: people mistype. From then on each doubles the wait, up to `LONGEST`.
3. An attempt during the wait is refused without looking at it, and does not lengthen the wait.
4. A login that succeeds forgets the device's refusals; so does `FORGET` without any, and an administrator.
5. A name that nobody has is counted like one that somebody has.

A stolen device has at most 111 guesses in its first day and 97 in each that follows (the tests count them). At a code
of six digits, three of which are good, that is one chance in 3,000 a day, and it needs the password before that.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Final
from uuid import UUID

FREE: Final = 5
FIRST: Final = timedelta(seconds=1)
LONGEST: Final = timedelta(minutes=15)
FORGET: Final = timedelta(hours=24)
_DOUBLINGS: Final = 10
_SITE: Final = 64  # bits of an IPv6 address that name a site: whoever has one address of it has them all


@dataclass(frozen=True, slots=True)
class Refusals:
    """Wrong guesses in a row, and when the last one was."""

    count: int
    last: datetime


def own(device: UUID) -> str:
    """The key of a device's guesses at its owner's account."""
    return f"own/{device}"


def account(name: str) -> str:
    """The key of other devices' guesses at the account of that name, which need not exist."""
    return f"account/{hashlib.sha256(name.encode()).hexdigest()}"


def keys(*, device: UUID, owner: bool, name: str, source: str) -> tuple[str, ...]:
    """Whose guesses this attempt counts among (law 1); `owner`: the account is the device's owner's."""
    if owner:
        return (own(device),)
    return (f"device/{device}", account(name), f"source/{_site(source)}")


def wait(refusals: Refusals | None, now: datetime) -> timedelta:
    """How long until the next attempt; zero if it may be now."""
    if refusals is None or refusals.count < FREE or now - refusals.last > FORGET:
        return timedelta(0)
    delay = min(FIRST * (1 << min(refusals.count - FREE, _DOUBLINGS)), LONGEST)
    # A clock set back must neither end the wait nor make it longer than it was.
    left: timedelta = refusals.last + delay - now
    return min(max(left, timedelta(0)), delay)


def after_another(refusals: Refusals | None, now: datetime) -> Refusals:
    """The refusals with one more at `now`."""
    if refusals is None or now - refusals.last > FORGET:
        return Refusals(1, now)
    return Refusals(refusals.count + 1, now)


def _site(source: str) -> str:
    """A source as it is counted: an IPv4 address, or the /64 of an IPv6 address."""
    address = ip_address(source.partition("%")[0])
    return str(address) if address.version == 4 else str(ip_network((address, _SITE), strict=False))  # noqa: PLR2004
