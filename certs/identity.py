"""An identity: a private key and the certificates that give it a name.

Law: an :class:`Identity` that exists is whole. Its key is the key of its leaf, and its leaf names one party.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs import profile
from certs.errors import BadCertificate, Refusal
from certs.issue import load_private_key
from certs.names import Name
from certs.secret import Secret
from certs.verify import spoken_name


@dataclass(frozen=True)
class Identity:
    """``key`` is PKCS#8 PEM; ``chain`` is the leaf first, then what peers need to verify it."""

    key: Secret
    chain: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        if not self.chain:
            raise BadCertificate(Refusal.MALFORMED, "an identity needs a certificate")
        with profile.readable("the certificate"):
            certified = self.chain[0].public_key()
        if load_private_key(self.key).public_key() != certified:
            raise BadCertificate(Refusal.BAD_KEY, "the private key is not the one of the certificate")
        spoken_name(self.chain[0])

    @classmethod
    def from_pem(cls, key: Secret, chain_pem: bytes) -> "Identity":
        """The identity of a key and a chain in PEM, leaf first."""
        with profile.readable("the certificate chain"):
            return cls(key, tuple(x509.load_pem_x509_certificates(chain_pem)))

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that names this party."""
        return self.chain[0]

    @property
    def name(self) -> Name:
        """Who this is."""
        return spoken_name(self.leaf)

    @property
    def chain_pem(self) -> bytes:
        """The whole chain in PEM, leaf first."""
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    @property
    def renewal_due(self) -> datetime:
        """When to ask for the next certificate."""
        return profile.renewal_due(self.leaf, self.name.purpose)

    def expired(self, now: datetime) -> bool:
        """Whether the certificate has ended by ``now``."""
        return now > self.leaf.not_valid_after_utc
