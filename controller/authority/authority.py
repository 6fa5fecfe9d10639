"""The authority: the root and the intermediates, kept sealed in the database, and the certificates they issue.

Laws:

1. CA keys are in the database sealed, each for its own row, and in memory; nowhere else.
2. What is issued is signed by the newest intermediate of its purpose that is not retired; what is trusted are all of
   them, so that a rotation overlaps.
3. A chain that is handed out ends at the intermediate: whoever receives it has the root already, or pins it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Self
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from certs.identity import Identity
from certs.issue import (
    Issuer,
    issue_intermediate,
    issue_leaf,
    issue_root,
    load_private_key,
    make_csr,
    new_private_key,
    private_key_pem,
)
from certs.names import Name, NameKind, Purpose
from certs.trust import Trust
from certs.verify import spki_sha256
from controller.errors import StorageError
from controller.storage.models import Authority as Row
from controller.storage.sealing import Sealer

ROOT: Final = "root"


@dataclass(frozen=True)
class Issued:
    """A certificate that was issued: `chain_pem` is the leaf and its intermediate."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]

    @property
    def chain_pem(self) -> str:
        """The chain in PEM, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain).decode()

    @property
    def key_sha256(self) -> bytes:
        """SHA-256 of the certified public key (its SPKI), 32 bytes."""
        return spki_sha256(self.leaf)

    @property
    def valid_until(self) -> datetime:
        """The certificate's end."""
        return self.leaf.not_valid_after_utc


@dataclass(frozen=True)
class Authority:
    """Issues for one trust domain; `trust` is what everybody else is given. `Authority.load` reads it."""

    trust: Trust
    _issuers: Mapping[Purpose, Issuer] = field(repr=False)

    @classmethod
    async def load(cls, db: AsyncSession, sealer: Sealer) -> Self:
        """The authority in the database. Raises StorageError if a part of it is missing or does not open."""
        rows = (await db.scalars(select(Row).order_by(Row.created_at, Row.id))).all()
        certificates = {row.id: x509.load_pem_x509_certificate(row.certificate.encode()) for row in rows}
        live = [row for row in rows if row.retired_at is None]
        roots = [certificates[row.id] for row in live if row.purpose == ROOT]
        if not roots:
            raise _incomplete("root certificate")
        trust = Trust.of(roots[-1], [certificates[row.id] for row in live if row.purpose != ROOT])
        issuers: dict[Purpose, Issuer] = {}
        for row in live:
            if row.purpose != ROOT and row.sealed_key is not None:
                key = load_private_key(sealer.open(row.sealed_key, _context(row.id)))
                issuers[Purpose(row.purpose)] = Issuer(certificates[row.id], key)  # in order: the newest stays
        for purpose in Purpose:
            if purpose not in issuers:
                raise _incomplete(f"key of the {purpose} intermediate")
        return cls(trust, issuers)

    @property
    def domain(self) -> str:
        """The trust domain."""
        return self.trust.domain

    @property
    def root_sha256(self) -> bytes:
        """SHA-256 of the root's SPKI: what an invite pins, 32 bytes."""
        return spki_sha256(self.trust.root)

    def name(self, kind: NameKind, identifier: str | UUID) -> Name:
        """The name of somebody in this domain."""
        return Name(self.domain, kind, str(identifier))

    def issue(
        self, name: Name, csr_pem: str, *, now: datetime, lifetime: timedelta, hosts: Sequence[str] = ()
    ) -> Issued:
        """A certificate for `name` over the request's key. Raises BadCertificate for a request that cannot be signed.

        `hosts` (DNS names, addresses) are for services only. It ends with `lifetime`, or with its issuer if sooner.
        """
        issuer = self._issuers[name.purpose]
        leaf = issue_leaf(issuer, csr_pem.encode(), name, now=now, lifetime=lifetime, hosts=hosts)
        return Issued(leaf, (leaf, issuer.certificate))

    def new_identity(self, name: Name, *, now: datetime, lifetime: timedelta, hosts: Sequence[str] = ()) -> Identity:
        """A new key and its certificate, for this process itself: the controller's own TLS identity."""
        key = new_private_key()
        issued = self.issue(name, make_csr(key).decode(), now=now, lifetime=lifetime, hosts=hosts)
        return Identity(private_key_pem(key), issued.chain)


def create_authority(db: AsyncSession, sealer: Sealer, domain: str, *, now: datetime) -> Trust:
    """Makes a root and one intermediate a purpose for `domain` and adds their rows to `db`; the caller commits."""
    root = issue_root(domain, now=now)
    intermediates = {purpose: issue_intermediate(root, purpose, domain, now=now) for purpose in Purpose}
    db.add_all(_rows({ROOT: root, **{str(each): issuer for each, issuer in intermediates.items()}}, sealer, now))
    return Trust.of(root.certificate, [issuer.certificate for issuer in intermediates.values()])


def _rows(issuers: Mapping[str, Issuer], sealer: Sealer, now: datetime) -> Iterable[Row]:
    for purpose, issuer in issuers.items():
        identifier = uuid4()
        yield Row(
            id=identifier,
            purpose=purpose,
            certificate=issuer.certificate.public_bytes(Encoding.PEM).decode(),
            sealed_key=sealer.seal(private_key_pem(issuer.key), _context(identifier)),
            created_at=now,
            retired_at=None,
        )


def _context(identifier: UUID) -> str:
    return f"authority/{identifier}/key"


def _incomplete(what: str) -> StorageError:
    return StorageError(
        f"the database has no {what}", "restore a backup, or run gloam-controller init for a new perimeter"
    )
