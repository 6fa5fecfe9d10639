"""A provider's public keys: from its JWK set to what tokens are checked with, and when to ask for it again (pure).

Laws:

1. Only public keys for signatures of an algorithm we know count; others are passed over (RFC 7517 section 5).
   A symmetric key never counts: what verifies with it could also have been made with it by anybody who read the set.
2. An RSA key has at least 2,048 bits.
3. A set is believed for `FRESH`: a key the provider has withdrawn is forgotten then. After that, no set, no login.
4. A `kid` we do not know is worth one question more, at most every `PATIENCE`: made-up tokens make us ask no more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

KINDS: Final = {"RS256": "RSA", "PS256": "RSA", "ES256": "P-256", "EdDSA": "Ed25519"}
"""The algorithms there are here, and the kind of key each needs."""
SMALLEST_RSA: Final = 2_048
MOST_KEYS: Final = 100
FRESH: Final = timedelta(hours=1)
PATIENCE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key. `algorithm` where the set binds it to one."""

    kid: str | None
    kind: str
    algorithm: str | None
    key: Key

    def fits(self, algorithm: str) -> bool:
        """Whether tokens of this algorithm are checked with it."""
        return KINDS.get(algorithm) == self.kind and self.algorithm in {None, algorithm}


@dataclass(frozen=True, slots=True)
class KeySet:
    """A provider's keys, when they were asked for, and when that was last done for a `kid` that was not among them."""

    keys: tuple[SigningKey, ...]
    asked_at: datetime
    sought_at: datetime | None = None

    def fresh(self, now: datetime) -> bool:
        """Whether it is still believed (law 3). A clock that was set back does not make it so for longer."""
        return abs(now - self.asked_at) < FRESH

    def patient(self, now: datetime) -> bool:
        """Whether an unknown `kid` has to wait (law 4)."""
        return self.sought_at is not None and abs(now - self.sought_at) < PATIENCE


def parse_keys(document: Mapping[str, Any]) -> tuple[SigningKey, ...]:
    """The keys of a JWK set that count. Raises ValueError for what is no such set."""
    keys = document.get("keys")
    if not isinstance(keys, Sequence) or isinstance(keys, str):
        raise ValueError("a set of keys has a list `keys`")  # noqa: TRY004 - bad content, whatever its type
    if len(keys) > MOST_KEYS:
        raise ValueError(f"more than {MOST_KEYS} keys")
    return tuple(key for each in keys if (key := _key(each)) is not None)


def _key(member: object) -> SigningKey | None:
    if not isinstance(member, Mapping) or member.get("use", "sig") != "sig":
        return None
    operations = member.get("key_ops")
    if operations is not None and (not isinstance(operations, Sequence) or "verify" not in operations):
        return None
    kid, algorithm = member.get("kid"), member.get("alg")
    if not isinstance(kid, str | None) or not isinstance(algorithm, str | None):
        return None
    public = {name: member[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in member}
    try:
        made = _made(public)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None if made is None else SigningKey(kid, made[0], algorithm, made[1])


def _made(public: dict[str, Any]) -> tuple[str, Key] | None:
    match public.get("kty"), public.get("crv"):
        case "RSA", None:
            rsa = RSAKey.import_key(public)
            return ("RSA", rsa) if rsa.raw_value.key_size >= SMALLEST_RSA else None
        case "EC", "P-256":
            return "P-256", ECKey.import_key(public)
        case "OKP", "Ed25519":
            return "Ed25519", OKPKey.import_key(public)
        case _:
            return None
