"""Verifying: from a chain that a TLS stack has verified to the one name it proves.

Laws:

1. The name is read from the leaf of the verified chain, never from another certificate that was presented
   (OpenZiti GHSA-mrpr-756c-xm47).
2. The leaf must be signed by an anchor that is trusted for the purpose of its name, compared byte for byte and by
   signature (Teleport CVE-2025-49825: one authority trusted for several roles).
3. What is missing is refused, not assumed: validity, usage, constraints and exactly one URI name are all required,
   and an extension that is critical and unknown is a refusal.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from certs import profile
from certs.errors import BadCertificate, BadName, Refusal
from certs.names import Name, Purpose

Anchors = Mapping[Purpose, Sequence[x509.Certificate]]

_UNDERSTOOD: Final = frozenset(
    {
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    }
)
_LEAST_CHAIN: Final = 2  # a leaf and the anchor that signed it


def name_of(
    verified_chain: Sequence[x509.Certificate],
    *,
    anchors: Anchors,
    domain: str,
    now: datetime,
    server: bool = False,
) -> Name:
    """The name that the leaf of ``verified_chain`` (leaf first, then its anchor) proves at ``now``.

    ``anchors`` holds only the purposes the caller trusts here; several certificates of one purpose let a rotation
    overlap. ``server`` says that the peer is the one connected to. Raises :class:`BadCertificate` with the reason.
    """
    with profile.readable("the certificate"):
        if len(verified_chain) < _LEAST_CHAIN:
            raise BadCertificate(Refusal.WRONG_ISSUER, "the certificate came without the authority that signed it")
        leaf, signer = verified_chain[0], verified_chain[1]
        purpose = _purpose_of_signer(leaf, signer, anchors)
        _check_time(signer, now, "the authority's certificate")
        _check_time(leaf, now, "the certificate")
        _check_usage(leaf, purpose, server=server)
        name = spoken_name(leaf)
    if name.purpose is not purpose:
        raise BadCertificate(Refusal.WRONG_KIND, f"{name} was signed by the {purpose} intermediate, which may not")
    if name.domain != domain:
        raise BadCertificate(Refusal.WRONG_DOMAIN, f"{name} is not of the trust domain {domain}")
    return name


def spoken_name(leaf: x509.Certificate) -> Name:
    """The name a certificate claims: its exactly one URI. It proves nothing; :func:`name_of` does.

    Devices and sessions have no other names; services may also have DNS names and addresses.
    """
    with profile.readable("the certificate"):
        names = list(profile.extension(leaf.extensions, x509.SubjectAlternativeName) or ())
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    if len(uris) != 1:
        raise BadCertificate(Refusal.NO_NAME, f"the certificate has {len(uris)} URI names where it needs exactly one")
    try:
        name = Name.parse(uris[0])
    except BadName as error:
        raise BadCertificate(Refusal.BAD_NAME, str(error)) from error
    allowed: tuple[type[x509.GeneralName], ...] = (x509.UniformResourceIdentifier,)
    if name.purpose is Purpose.SERVICES:
        allowed = (x509.UniformResourceIdentifier, x509.DNSName, x509.IPAddress)
    if not all(isinstance(other, allowed) for other in names):
        raise BadCertificate(Refusal.BAD_NAME, f"the certificate of {name} has names that a {name.kind} may not have")
    return name


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """SHA-256 over the certificate's SubjectPublicKeyInfo (RFC 7469 section 2.4): 32 bytes."""
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).digest()


def require_signed_by(certificate: x509.Certificate, signer: x509.Certificate, what: str) -> None:
    """:class:`BadCertificate` unless ``signer`` directly issued ``certificate``, by name and by signature."""
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadCertificate(Refusal.WRONG_ISSUER, f"{what} was not signed by the authority it names") from error


def _purpose_of_signer(leaf: x509.Certificate, signer: x509.Certificate, anchors: Anchors) -> Purpose:
    found = [purpose for purpose, trusted in anchors.items() if signer in trusted]  # equality is of the DER bytes
    if len(found) != 1 or profile.purpose_of(signer) is not found[0]:
        raise BadCertificate(Refusal.WRONG_ISSUER, "the certificate was signed by an authority not trusted here")
    require_signed_by(leaf, signer, "the certificate")
    return found[0]


def _check_time(certificate: x509.Certificate, now: datetime, what: str) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begin:
        raise BadCertificate(Refusal.NOT_YET_VALID, f"{what} is not valid before {begin:%Y-%m-%d %H:%M:%S} UTC")
    if now > end:
        raise BadCertificate(Refusal.EXPIRED, f"{what} expired at {end:%Y-%m-%d %H:%M:%S} UTC")


def _check_usage(leaf: x509.Certificate, purpose: Purpose, *, server: bool) -> None:
    profile.require_p256(leaf.public_key(), "the certificate")
    extensions = leaf.extensions
    if unknown := [each.oid.dotted_string for each in extensions if each.critical and each.oid not in _UNDERSTOOD]:
        raise BadCertificate(Refusal.WRONG_USAGE, f"the certificate demands extensions unknown here: {unknown[0]}")
    constraints = profile.extension(extensions, x509.BasicConstraints)
    if constraints is None or constraints.ca:
        raise BadCertificate(Refusal.WRONG_USAGE, "the certificate does not say that it is no authority")
    if profile.extension(extensions, x509.KeyUsage) != profile.LEAF_KEY_USAGE:
        raise BadCertificate(Refusal.WRONG_USAGE, "the certificate's key is not for signatures only")
    usage = frozenset(profile.extension(extensions, x509.ExtendedKeyUsage) or ())
    if usage != profile.EXTENDED_KEY_USAGE[purpose]:
        raise BadCertificate(Refusal.WRONG_USAGE, f"the certificate's extended usage is not that of {purpose}")
    if server and ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise BadCertificate(Refusal.WRONG_USAGE, f"a certificate for {purpose} cannot serve")
