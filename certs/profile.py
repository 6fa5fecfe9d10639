"""What our certificates look like; ``issue`` writes this and ``verify`` insists on it, so neither can drift.

Laws:

1. A CA certificate says its purpose in the OU of its subject and its trust domain in its one URI SAN (SPIFFE
   X509-SVID section 5: the path of a signing certificate's ID is empty).
2. Purpose decides the extended key usage exactly: services serve and connect, devices and sessions only connect.
3. Keys are ECDSA P-256: one curve, spoken by every TLS stack and every hardware token.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import BadCertificate, BadName, Refusal
from certs.names import Purpose, parse_domain

Ext = TypeVar("Ext", bound=x509.ExtensionType)

UNIT: Final = NameOID.ORGANIZATIONAL_UNIT_NAME
ROOT_LIFETIME: Final = timedelta(days=3652)
INTERMEDIATE_LIFETIME: Final = timedelta(days=1826)
LEAF_LIFETIME: Final[Mapping[Purpose, timedelta]] = {
    Purpose.SERVICES: timedelta(days=30),
    Purpose.DEVICES: timedelta(days=30),
    Purpose.SESSIONS: timedelta(minutes=10),
}
RENEWED_AT: Final[Mapping[Purpose, float]] = {Purpose.SERVICES: 2 / 3, Purpose.DEVICES: 2 / 3, Purpose.SESSIONS: 1 / 2}

CLOCK_SKEW: Final = timedelta(hours=1)
"""How far back ``not_before`` reaches: a verifier whose clock is slow must not refuse a fresh certificate.

More than the two minutes a knock may be wrong by, or who knocks well would fail at TLS; an hour is what public
authorities give. Nothing is weaker for it: what takes a right away is a certificate's end, or its lease's.
"""

EXTENDED_KEY_USAGE: Final[Mapping[Purpose, frozenset[x509.ObjectIdentifier]]] = {
    Purpose.SERVICES: frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}),
    Purpose.DEVICES: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
    Purpose.SESSIONS: frozenset({ExtendedKeyUsageOID.CLIENT_AUTH}),
}

LEAF_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
CA_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def renewal_due(certificate: x509.Certificate, purpose: Purpose) -> datetime:
    """When the holder of ``certificate`` should ask for the next one."""
    issued, end = certificate.not_valid_before_utc + CLOCK_SKEW, certificate.not_valid_after_utc
    return issued + (end - issued) * RENEWED_AT[purpose]


def require_p256(key: object, what: str) -> ec.EllipticCurvePublicKey:
    """``key`` if it is a P-256 public key, else :class:`BadCertificate`."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCertificate(Refusal.BAD_KEY, f"{what} does not use an ECDSA P-256 key")
    return key


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turns what the parser raises lazily, while ``what`` is being read, into one :class:`BadCertificate`."""
    try:
        yield
    except (
        ValueError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise BadCertificate(Refusal.MALFORMED, f"{what} cannot be read") from error


def extension(extensions: x509.Extensions, kind: type[Ext]) -> Ext | None:
    """The extension of this kind, or None."""
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def purpose_of(certificate: x509.Certificate) -> Purpose:
    """The purpose of one of our intermediates, read from its subject."""
    with readable("the authority's certificate"):
        units = [str(unit.value) for unit in certificate.subject.get_attributes_for_oid(UNIT)]
    if len(units) != 1 or units[0] not in set(Purpose):
        raise BadCertificate(Refusal.WRONG_PURPOSE, "the authority's certificate is not an intermediate of ours")
    return Purpose(units[0])


def domain_of(certificate: x509.Certificate) -> str:
    """The trust domain of one of our CA certificates, read from its only SAN."""
    with readable("the authority's certificate"):
        names = list(extension(certificate.extensions, x509.SubjectAlternativeName) or ())
    if len(names) != 1 or not isinstance(names[0], x509.UniformResourceIdentifier):
        raise BadCertificate(Refusal.NO_NAME, "the authority's certificate does not name exactly one trust domain")
    scheme, _, domain = names[0].value.partition("://")
    try:
        if scheme == "spiffe":
            return parse_domain(domain)
    except BadName as error:
        raise BadCertificate(Refusal.BAD_NAME, f"the authority's certificate is misnamed: {error}") from error
    raise BadCertificate(Refusal.BAD_NAME, "the authority's certificate names no SPIFFE trust domain")
