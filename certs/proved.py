"""Names that chains have proved, so that the second connection of a session does not read its certificate again.

1. What is kept follows from the bytes of the chain alone, which its SHA-256 digests stand for. Its times are compared
   with every `now`; that the chain is signed, and that the peer holds the key, the TLS stack verifies on every
   connection.
2. Only what was proved is kept: a refusal is found again each time, with its reason.
3. It is bounded: when it is full it begins anew.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from cryptography import x509

from certs.names import Name
from certs.verify import Anchors, name_of

MOST: Final = 1_024
"""Chains kept, at about 3 KB each: the sessions that open tunnels within minutes of each other."""


class Proof(NamedTuple):
    """A name, the leaf that proves it, and from when to when every certificate of the chain counts."""

    name: Name
    leaf: x509.Certificate
    begin: datetime
    end: datetime


class Proved:
    """What the chains of one verifier have proved; another verifier needs another one."""

    def __init__(self, anchors: Anchors, domain: str, *, most: int = MOST) -> None:
        self._anchors = anchors
        self._domain = domain
        self._most = most
        self._proofs: dict[tuple[bytes, ...], Proof] = {}

    def __len__(self) -> int:
        return len(self._proofs)

    def name_of(
        self, digests: tuple[bytes, ...], read: Callable[[], Sequence[x509.Certificate]], now: datetime
    ) -> Proof:
        """What the verified chain with these digests (SHA-256 of each DER, leaf first) proves at `now`.

        `read` answers that chain. Raises BadCertificate as `certs.verify.name_of` does, and what `read` raises.
        """
        known = self._proofs.get(digests)
        if known is not None and known.begin <= now <= known.end:
            return known
        chain = read()
        name = name_of(chain, anchors=self._anchors, domain=self._domain, now=now)
        begin = max(each.not_valid_before_utc for each in chain)
        proof = Proof(name, chain[0], begin, min(each.not_valid_after_utc for each in chain))
        if len(self._proofs) >= self._most:
            self._proofs.clear()
        self._proofs[digests] = proof
        return proof
