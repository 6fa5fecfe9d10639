"""Trust: the root of a domain and, for each purpose, the intermediates in use.

Laws:

1. A trust exists only if its root is self-signed and every intermediate is signed by that root, has its domain,
   says its purpose and may sign leaves only.
2. Several anchors may serve one purpose: a rotation adds the next before it drops the last.
3. The wire form is the root in PEM followed by the intermediates; nothing else may stand in it.
4. A trust is replaced only by one of the same root. What a server presents counts besides only if that root signed it
   and it is newer than all that are held: who was away during a rotation gets in, what was taken back never returns.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs import profile
from certs.errors import BadCertificate, Refusal
from certs.names import Purpose
from certs.verify import require_signed_by, spki_sha256

LARGEST_BUNDLE: Final = 64 * 1024  # bytes: a root and some sixty intermediates


@dataclass(frozen=True)
class Trust:
    """What a party trusts. Every purpose is a key of ``anchors``, with an empty tuple where nothing is trusted."""

    domain: str
    root: x509.Certificate
    anchors: Mapping[Purpose, tuple[x509.Certificate, ...]]

    def __post_init__(self) -> None:
        _check_root(self.root, self.domain)
        for purpose, trusted in self.anchors.items():
            for certificate in trusted:
                if _checked_intermediate(certificate, self.root, self.domain) is not purpose:
                    raise BadCertificate(Refusal.WRONG_PURPOSE, f"an intermediate is not one for {purpose}")

    @classmethod
    def of(cls, root: x509.Certificate, intermediates: Iterable[x509.Certificate]) -> Self:
        """The trust of a root and its intermediates, sorted by the purpose each one says."""
        found = list(dict.fromkeys(intermediates))
        purposes = [profile.purpose_of(certificate) for certificate in found]
        anchors = {
            purpose: tuple(each for each, said in zip(found, purposes, strict=True) if said is purpose)
            for purpose in Purpose
        }
        return cls(profile.domain_of(root), root, anchors)

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """The trust written by :meth:`to_pem`; :class:`BadCertificate` for anything else."""
        if len(pem) > LARGEST_BUNDLE:
            raise BadCertificate(Refusal.MALFORMED, f"the trust bundle is longer than {LARGEST_BUNDLE} bytes")
        with profile.readable("the trust bundle"):
            root, *intermediates = x509.load_pem_x509_certificates(pem)
        return cls.of(root, intermediates)

    @classmethod
    def pinned(cls, presented: Sequence[x509.Certificate], root_spki_sha256: bytes, *, now: datetime) -> Self:
        """What an invite's pin lets a newcomer trust: the root among ``presented`` with that key, and services of it.

        ``presented`` is what a server sent (leaf, intermediate, root); the signatures are checked here, so nothing
        in it needs to be verified before. Raises :class:`BadCertificate` (wrong_pin) if no root has the key.
        """
        authorities = list(dict.fromkeys(presented[1:]))
        roots = [each for each in authorities if _has_key(each, root_spki_sha256)]
        if len(roots) != 1:
            raise BadCertificate(Refusal.WRONG_PIN, "the server does not belong to the perimeter of this invite")
        services = [each for each in authorities if each not in roots and profile.purpose_of(each) is Purpose.SERVICES]
        trust = cls.of(roots[0], services)
        with profile.readable("the root certificate"):
            begin, end = trust.root.not_valid_before_utc, trust.root.not_valid_after_utc
        if not begin <= now <= end:
            raise BadCertificate(Refusal.EXPIRED, "the root of this perimeter is not valid at this time")
        return trust

    def only(self, *purposes: Purpose) -> dict[Purpose, tuple[x509.Certificate, ...]]:
        """The anchors of these purposes, for a verifier that needs no others."""
        return {purpose: self.anchors.get(purpose, ()) for purpose in purposes}

    def accepting(self, presented: x509.Certificate, purpose: Purpose) -> dict[Purpose, tuple[x509.Certificate, ...]]:
        """The anchors of ``purpose``, with ``presented`` if it may count (law 4); for verifying servers only."""
        held = self.anchors.get(purpose, ())
        try:
            if _checked_intermediate(presented, self.root, self.domain) is not purpose:
                return {purpose: held}
        except BadCertificate:
            return {purpose: held}
        if not held or presented.not_valid_before_utc <= max(each.not_valid_before_utc for each in held):
            return {purpose: held}
        return {purpose: (*held, presented)}

    def succeeded_by(self, pem: bytes) -> Self:
        """The trust in ``pem``, which replaces this one; :class:`BadCertificate` if its root is another (law 4)."""
        new = self.from_pem(pem)
        if new.root != self.root:
            raise BadCertificate(Refusal.WRONG_ISSUER, "the new trust does not have the root that is pinned here")
        return new

    def intermediates(self) -> tuple[x509.Certificate, ...]:
        """Every anchor, in the order of the purposes."""
        return tuple(certificate for purpose in Purpose for certificate in self.anchors.get(purpose, ()))

    def with_anchor(self, certificate: x509.Certificate) -> Self:
        """This trust and one intermediate more: the first half of a rotation."""
        return self.of(self.root, [*self.intermediates(), certificate])

    def without_anchor(self, certificate: x509.Certificate) -> Self:
        """This trust and one intermediate less: the second half of a rotation."""
        return self.of(self.root, [each for each in self.intermediates() if each != certificate])

    def to_pem(self) -> bytes:
        """The root, then the intermediates, in PEM."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in (self.root, *self.intermediates()))


def _has_key(certificate: x509.Certificate, root_spki_sha256: bytes) -> bool:
    with profile.readable("a certificate of the server"):
        return spki_sha256(certificate) == root_spki_sha256


def _check_root(root: x509.Certificate, domain: str) -> None:
    require_signed_by(root, root, "the root")
    _check_authority(root, 1, "the root")
    if profile.domain_of(root) != domain:
        raise BadCertificate(Refusal.WRONG_DOMAIN, f"the root is not the root of {domain}")


def _checked_intermediate(certificate: x509.Certificate, root: x509.Certificate, domain: str) -> Purpose:
    require_signed_by(certificate, root, "an intermediate")
    _check_authority(certificate, 0, "an intermediate")
    if profile.domain_of(certificate) != domain:
        raise BadCertificate(Refusal.WRONG_DOMAIN, f"an intermediate is not of the trust domain {domain}")
    return profile.purpose_of(certificate)


def _check_authority(certificate: x509.Certificate, path_length: int, what: str) -> None:
    with profile.readable(what):
        profile.require_p256(certificate.public_key(), what)
        constraints = profile.extension(certificate.extensions, x509.BasicConstraints)
        usage = profile.extension(certificate.extensions, x509.KeyUsage)
    if constraints != x509.BasicConstraints(ca=True, path_length=path_length) or usage != profile.CA_KEY_USAGE:
        raise BadCertificate(Refusal.WRONG_USAGE, f"{what} is not limited to signing what it should")
