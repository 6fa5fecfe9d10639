"""The authority: the root and the intermediates, kept sealed in the database, and the certificates they issue.

Laws:

1. CA keys are in the database sealed, each for its own row, and in memory; nowhere else. The root's is opened only
   while it signs, and is not there at all where it is kept offline.
2. What is issued is signed by the one intermediate of its purpose that issues (rules.py); what is trusted are all that
   are not retired, so that a rotation overlaps.
3. A chain that is handed out ends at the intermediate: whoever receives it has the root already, or pins it.
"""

from collections.abc import Callable, Mapping, Sequence
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
from controller.authority.rules import Intermediate, issuing
from controller.errors import StorageError
from controller.storage.models import Authority as Row
from controller.storage.sealing import Sealer

ROOT: Final = "root"


@dataclass(frozen=True)
class Issued:
    """A certificate that was issued: `chain_pem` is the leaf and its intermediate."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    issuer: UUID  # the intermediate's row

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
class _Known:
    """What was read from the database, at once."""

    trust: Trust
    trust_pem: str
    intermediates: tuple[Intermediate, ...]
    root_offline: bool
    issuers: Mapping[Purpose, tuple[UUID, Issuer]] = field(repr=False)


class Authority:
    """Issues for one trust domain; `trust` is what everybody else is given. `Authority.load` reads it."""

    def __init__(self, known: _Known) -> None:
        self._known = known

    @classmethod
    async def load(cls, db: AsyncSession, sealer: Sealer) -> Self:
        """The authority in the database. Raises StorageError if a part of it is missing or does not open."""
        return cls(await _read(db, sealer))

    async def reload(self, db: AsyncSession, sealer: Sealer) -> None:
        """From here on what is in the database now counts, for whoever issues or trusts."""
        self._known = await _read(db, sealer)

    @property
    def trust(self) -> Trust:
        """The root and every intermediate that is trusted."""
        return self._known.trust

    @property
    def trust_pem(self) -> str:
        """The same as a bundle."""
        return self._known.trust_pem

    @property
    def intermediates(self) -> tuple[Intermediate, ...]:
        """All there ever were, the oldest first."""
        return self._known.intermediates

    def issuing(self, purpose: Purpose) -> x509.Certificate:
        """The intermediate that issues for a purpose."""
        return self._known.issuers[purpose][1].certificate

    @property
    def root_offline(self) -> bool:
        """Whether the root's key is kept elsewhere."""
        return self._known.root_offline

    def signed(self, leaf: x509.Certificate) -> bool:
        """Whether a leaf that was verified once is of an intermediate that is still trusted."""
        named = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        keys = (each.public_key() for each in self.trust.intermediates())
        return named in {x509.SubjectKeyIdentifier.from_public_key(key).digest for key in keys}

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
        identifier, issuer = self._known.issuers[name.purpose]
        leaf = issue_leaf(issuer, csr_pem.encode(), name, now=now, lifetime=lifetime, hosts=hosts)
        return Issued(leaf, (leaf, issuer.certificate), identifier)

    def new_identity(self, name: Name, *, now: datetime, lifetime: timedelta, hosts: Sequence[str] = ()) -> Identity:
        """A new key and its certificate, for this process itself: the controller's own TLS identity."""
        key = new_private_key()
        issued = self.issue(name, make_csr(key).decode(), now=now, lifetime=lifetime, hosts=hosts)
        return Identity(private_key_pem(key), issued.chain)


async def _read(db: AsyncSession, sealer: Sealer) -> _Known:
    rows = (await db.scalars(select(Row).order_by(Row.created_at, Row.id))).all()
    roots = [row for row in rows if row.purpose == ROOT and row.retired_at is None]
    if not roots:
        raise _incomplete("root certificate")
    found = {row.id: (intermediate_of(row), row.sealed_key) for row in rows if row.purpose != ROOT}
    intermediates = tuple(one for one, _ in found.values())
    issuers: dict[Purpose, tuple[UUID, Issuer]] = {}
    for purpose in Purpose:
        one = issuing(purpose, intermediates)
        sealed = None if one is None else found[one.id][1]
        if one is None or sealed is None:
            raise _incomplete(f"key of the {purpose} intermediate")
        issuers[purpose] = (one.id, Issuer(one.certificate, load_private_key(sealer.open(sealed, key_context(one.id)))))
    trusted = [one.certificate for one in intermediates if one.retired_at is None]
    trust = Trust.of(_certificate(roots[-1]), trusted)
    return _Known(trust, trust.to_pem().decode(), intermediates, roots[-1].sealed_key is None, issuers)


async def open_root(db: AsyncSession, sealer: Sealer) -> Issuer | None:
    """The root with its key, to sign an intermediate; None where the key is kept offline."""
    live = select(Row).where(Row.purpose == ROOT, Row.retired_at.is_(None)).order_by(Row.created_at.desc()).limit(1)
    row = (await db.scalars(live)).one()
    if row.sealed_key is None:
        return None
    return Issuer(_certificate(row), load_private_key(sealer.open(row.sealed_key, key_context(row.id))))


def create_authority(
    db: AsyncSession, sealer: Sealer, domain: str, *, now: datetime, keep_root: Callable[[Issuer], None] | None = None
) -> Trust:
    """Makes a root and one intermediate a purpose for `domain` and adds their rows to `db`; the caller commits.

    `keep_root` takes the root's key somewhere else; without it the key is sealed in the database.
    """
    root = issue_root(domain, now=now)
    if keep_root is not None:
        keep_root(root)
    db.add(row_of(root, ROOT, sealer, now=now, key_elsewhere=keep_root is not None))
    intermediates = {purpose: issue_intermediate(root, purpose, domain, now=now) for purpose in Purpose}
    db.add_all(row_of(each, purpose, sealer, now=now, issuing_at=now) for purpose, each in intermediates.items())
    return Trust.of(root.certificate, [issuer.certificate for issuer in intermediates.values()])


def row_of(
    issuer: Issuer,
    purpose: str,
    sealer: Sealer,
    *,
    now: datetime,
    issuing_at: datetime | None = None,
    key_elsewhere: bool = False,
) -> Row:
    """The row of a new CA certificate and its key."""
    identifier = uuid4()
    return Row(
        id=identifier,
        purpose=str(purpose),
        certificate=issuer.certificate.public_bytes(Encoding.PEM).decode(),
        sealed_key=None if key_elsewhere else sealer.seal(private_key_pem(issuer.key), key_context(identifier)),
        created_at=now,
        issuing_at=issuing_at,
        retired_at=None,
    )


def key_context(identifier: UUID) -> str:
    """Where the sealed key of a CA belongs."""
    return f"authority/{identifier}/key"


def request_context(identifier: UUID) -> str:
    """Where the sealed key of a request belongs."""
    return f"authority_request/{identifier}/key"


def intermediate_of(row: Row) -> Intermediate:
    """The intermediate of a row."""
    purpose = Purpose(row.purpose)
    return Intermediate(row.id, purpose, _certificate(row), row.created_at, row.issuing_at, row.retired_at)


def _certificate(row: Row) -> x509.Certificate:
    return x509.load_pem_x509_certificate(row.certificate.encode())


def _incomplete(what: str) -> StorageError:
    return StorageError(
        f"the database has no {what}", "restore a backup, or run gloam-controller init for a new perimeter"
    )
