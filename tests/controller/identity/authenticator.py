"""An authenticator and the browser in front of it, in software, from WebAuthn level 3 (sections 5.8.1, 6.1, 6.5).

It shares no code with gloam or its library, and can be told to get any of it wrong.
"""

import base64
import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey


def client_data(kind: str, challenge: bytes, origin: str, **more: Any) -> bytes:
    """What a browser has an authenticator sign (section 5.8.1)."""
    text = base64.urlsafe_b64encode(challenge).rstrip(b"=").decode()
    said = {"type": kind, "challenge": text, "origin": origin, "crossOrigin": False, **more}
    return json.dumps(said, separators=(",", ":")).encode()


@dataclass
class Authenticator:
    """One passkey in an authenticator with a counter (`step` 0: without one, like synced passkeys)."""

    key: Key = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    count: int = 0
    step: int = 1
    flags: int = UP | UV

    def data(self, *, rp_id: str = "localhost", flags: int | None = None, rest: bytes = b"") -> bytes:
        """Authenticator data (section 6.1)."""
        self.count += self.step
        flags = self.flags if flags is None else flags
        return hashlib.sha256(rp_id.encode()).digest() + struct.pack(">BI", flags, self.count) + rest

    def public_key(self) -> bytes:
        """The public key in COSE form (RFC 9053)."""
        match self.key:
            case ec.EllipticCurvePrivateKey():
                numbers = self.key.public_key().public_numbers()
                return cbor2.dumps(
                    {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
                )
            case ed25519.Ed25519PrivateKey():
                return cbor2.dumps({1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes_raw()})
            case rsa.RSAPrivateKey():
                public = self.key.public_key().public_numbers()
                modulus = public.n.to_bytes((public.n.bit_length() + 7) // 8, "big")
                return cbor2.dumps({1: 3, 3: -257, -1: modulus, -2: public.e.to_bytes(3, "big")})

    def sign(self, signed: bytes) -> bytes:
        """A signature of the passkey."""
        match self.key:
            case ec.EllipticCurvePrivateKey():
                return self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
            case ed25519.Ed25519PrivateKey():
                return self.key.sign(signed)
            case rsa.RSAPrivateKey():
                return self.key.sign(signed, padding.PKCS1v15(), hashes.SHA256())

    def made(self, **wrong: Any) -> bytes:
        """The attestation object of a new passkey (section 6.5), without an attestation."""
        public_key = wrong.pop("public_key", None) or self.public_key()
        fmt, statement = wrong.pop("fmt", "none"), wrong.pop("statement", {})
        attested = bytes(16) + struct.pack(">H", len(self.credential)) + self.credential + public_key
        wrong.setdefault("flags", self.flags)
        wrong["flags"] |= AT
        return cbor2.dumps({"fmt": fmt, "attStmt": statement, "authData": self.data(rest=attested, **wrong)})

    def response(self, challenge: bytes, port: int, **wrong: Any) -> dict[str, Any]:
        """The fields of a `PasskeyProof` (section 6.3.3). `wrong`: `kind`, `origin`, `said` for the browser's part;
        `flags`, `rp_id`, `rest` for the authenticator's."""
        kind, origin = wrong.pop("kind", "webauthn.get"), wrong.pop("origin", f"http://localhost:{port}")
        told = client_data(kind, challenge, origin, **wrong.pop("said", {}))
        data = self.data(**wrong)
        return {
            "port": port,
            "credential": self.credential,
            "client_data": told,
            "authenticator_data": data,
            "signature": self.sign(data + hashlib.sha256(told).digest()),
        }

    def registration(self, challenge: bytes, port: int, name: str = "key", **wrong: Any) -> dict[str, Any]:
        """The fields of an `AddPasskey` (section 6.3.2)."""
        kind, origin = wrong.pop("kind", "webauthn.create"), wrong.pop("origin", f"http://localhost:{port}")
        return {
            "name": name,
            "port": port,
            "credential": self.credential,
            "client_data": client_data(kind, challenge, origin, **wrong.pop("said", {})),
            "attestation": self.made(**wrong),
            "transports": ("internal",),
        }
