"""What an authenticator signed, checked (WebAuthn level 3, sections 7.1 and 7.2), with py_webauthn; pure.

Laws:

1. Every check has a reason of its own for the audit log. The library then checks all of it again, and the signature.
2. The person must have been present and verified: a PIN, a finger, a face. That makes a passkey two factors.
3. The page that asked must be the one the command served: its origin is compared as a whole, and no frame may ask.
4. The counter is looked at last, behind the signature: nobody without the key can make a passkey look cloned.
5. Who made an authenticator is not asked: attestations that would say so are refused.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_attestation_object,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import (
    UnsupportedAlgorithm,
    UnsupportedEC2Curve,
    UnsupportedPublicKey,
    UnsupportedPublicKeyType,
)
from webauthn.helpers.structs import (
    AttestationFormat,
    AuthenticationCredential,
    AuthenticatorAssertionResponse,
    AuthenticatorAttestationResponse,
    CredentialDeviceType,
    PublicKeyCredentialType,
    RegistrationCredential,
)

from wire.messages import AddPasskey, PasskeyProof
from wire.passkey import RP_ID, origin

_P25519: Final = 2**255 - 19

ALGORITHMS: Final = (
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
"""What authenticators may sign with, the most common first; the last for Windows machines with an older TPM."""

LEAST_RSA_BITS: Final = 2048
_PRESENT: Final = 0x01
_VERIFIED: Final = 0x04
_RP_ID_HASH: Final = hashlib.sha256(RP_ID.encode()).digest()
_LEAST_DATA: Final = 37  # the hash, the flags, the counter


class Reason(StrEnum):
    """Why a response was not accepted."""

    MALFORMED = "passkey_malformed"
    TYPE = "passkey_wrong_type"
    CHALLENGE = "passkey_wrong_challenge"
    ORIGIN = "passkey_wrong_origin"
    FRAMED = "passkey_framed"
    RP_ID = "passkey_wrong_rp_id"
    NOT_PRESENT = "passkey_user_not_present"
    NOT_VERIFIED = "passkey_user_not_verified"
    HANDLE = "passkey_wrong_user_handle"
    SIGNATURE = "passkey_wrong_signature"
    SYNCED = "passkey_backup_eligibility_changed"
    COUNTER = "passkey_counter_went_back"
    ATTESTATION = "passkey_attestation_unwanted"
    KEY = "passkey_key_unsupported"


@dataclass(frozen=True, slots=True)
class Refused:
    """The response does not count; `detail` is for the audit log."""

    reason: Reason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A passkey as it was registered (`synced`: it may be on several machines), and its counter as last seen."""

    public_key: bytes
    sign_count: int
    synced: bool


@dataclass(frozen=True, slots=True)
class Signed:
    """An authenticator of the person signed; its counter is to be stored."""

    sign_count: int


@dataclass(frozen=True, slots=True)
class Made:
    """A passkey an authenticator made."""

    credential: bytes
    public_key: bytes
    sign_count: int
    aaguid: str
    synced: bool


def challenge_of(client_data: bytes) -> bytes | None:
    """The challenge a response says it answers; None if it says none."""
    read = _read(client_data)
    return None if read is None else _decoded(read.get("challenge"))


def verify_assertion(proof: PasskeyProof, stored: Stored, *, challenge: bytes, handle: bytes) -> Signed | Refused:
    """Whether `proof` answers `challenge` with the stored passkey, for the person with that handle."""
    why = _check_client_data(proof.client_data, "webauthn.get", challenge, proof.port)
    if why is None:
        why = _check_authenticator_data(proof.authenticator_data)
    if why is None and proof.user_handle and not hmac.compare_digest(proof.user_handle, handle):
        why = Refused(Reason.HANDLE)
    if why is not None:
        return why
    credential = AuthenticationCredential(
        id=_encoded(proof.credential),
        raw_id=proof.credential,
        type=PublicKeyCredentialType.PUBLIC_KEY,
        response=AuthenticatorAssertionResponse(
            client_data_json=proof.client_data,
            authenticator_data=proof.authenticator_data,
            signature=proof.signature,
            user_handle=proof.user_handle,
        ),
    )
    try:
        verified = verify_authentication_response(
            credential=credential,
            expected_challenge=challenge,
            expected_rp_id=RP_ID,
            expected_origin=origin(proof.port),
            credential_public_key=stored.public_key,
            credential_current_sign_count=0,  # law 4: the library looks at it before the signature, we after
            require_user_verification=True,
        )
    except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes break in a parser is a refusal
        return _why(error)
    if (verified.credential_device_type is CredentialDeviceType.MULTI_DEVICE) is not stored.synced:
        return Refused(Reason.SYNCED)
    counts = verified.new_sign_count > 0 or stored.sign_count > 0
    if counts and verified.new_sign_count <= stored.sign_count:
        return Refused(Reason.COUNTER, f"{verified.new_sign_count} after {stored.sign_count}")
    return Signed(verified.new_sign_count)


def verify_registration(asked: AddPasskey, *, challenge: bytes) -> Made | Refused:
    """Whether `asked` holds a passkey that an authenticator made for `challenge`."""
    why = _check_client_data(asked.client_data, "webauthn.create", challenge, asked.port)
    if why is not None:
        return why
    try:
        return _registered(asked, challenge)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes break in a parser is a refusal
        return _why(error)


def _registered(asked: AddPasskey, challenge: bytes) -> Made | Refused:
    parsed = parse_attestation_object(asked.attestation)
    if parsed.fmt not in {AttestationFormat.NONE, AttestationFormat.PACKED} or parsed.att_stmt.x5c is not None:
        return Refused(Reason.ATTESTATION, str(parsed.fmt)[:32])
    flags = parsed.auth_data.flags
    why = _check_flags(parsed.auth_data.rp_id_hash, present=flags.up, verified=flags.uv)
    if why is not None:
        return why
    attested = parsed.auth_data.attested_credential_data
    if attested is None or attested.credential_id != asked.credential:
        return Refused(Reason.MALFORMED, "no passkey, or two identifiers")
    why = _check_key(attested.credential_public_key)
    if why is not None:
        return why
    made = verify_registration_response(
        credential=RegistrationCredential(
            id=_encoded(asked.credential),
            raw_id=asked.credential,
            type=PublicKeyCredentialType.PUBLIC_KEY,
            response=AuthenticatorAttestationResponse(
                client_data_json=asked.client_data, attestation_object=asked.attestation
            ),
        ),
        expected_challenge=challenge,
        expected_rp_id=RP_ID,
        expected_origin=origin(asked.port),
        require_user_verification=True,
        supported_pub_key_algs=list(ALGORITHMS),
    )
    return Made(
        credential=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        aaguid=made.aaguid,
        synced=made.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
    )


def _check_key(public_key: bytes) -> Refused | None:
    """A key that nothing can be verified with, or everything, is refused now, and not at the first login."""
    decoded = decode_credential_public_key(public_key)
    if decoded.alg not in ALGORITHMS:
        return Refused(Reason.KEY, f"algorithm {decoded.alg}"[:64])
    key = decoded_public_key_to_cryptography(decoded)
    if isinstance(key, RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        return Refused(Reason.KEY, f"RSA of {key.key_size} bits")
    if isinstance(key, Ed25519PublicKey) and _of_small_order(key):
        return Refused(Reason.KEY, "a point of small order")
    return None


def _of_small_order(key: Ed25519PublicKey) -> bool:
    """Whether signatures by this key can be made without a private key; RFC 8032 leaves the check to whoever needs it.

    The same point on Curve25519 (RFC 7748, section 4.1), where OpenSSL refuses a shared secret that is zero.
    """
    y = int.from_bytes(key.public_bytes_raw(), "little") % (1 << 255)
    if (y - 1) % _P25519 == 0:
        return True  # the neutral element, which Curve25519 has at infinity
    u = (1 + y) * pow(1 - y, -1, _P25519) % _P25519
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(u.to_bytes(32, "little")))
    except ValueError:
        return True
    return False


def _check_client_data(data: bytes, kind: str, challenge: bytes, port: int) -> Refused | None:
    read = _read(data)
    if read is None:
        return Refused(Reason.MALFORMED, "client data")
    if read.get("type") != kind:
        return Refused(Reason.TYPE)
    said = _decoded(read.get("challenge"))
    if said is None or not hmac.compare_digest(said, challenge):
        return Refused(Reason.CHALLENGE)
    if read.get("origin") != origin(port):
        return Refused(Reason.ORIGIN, str(read.get("origin"))[:128])
    if read.get("crossOrigin", False) is not False or "topOrigin" in read:
        return Refused(Reason.FRAMED)
    return None


def _check_authenticator_data(data: bytes) -> Refused | None:
    if len(data) < _LEAST_DATA:
        return Refused(Reason.MALFORMED, "authenticator data")
    flags = data[32]
    return _check_flags(data[:32], present=bool(flags & _PRESENT), verified=bool(flags & _VERIFIED))


def _check_flags(rp_id_hash: bytes, *, present: bool, verified: bool) -> Refused | None:
    if not hmac.compare_digest(rp_id_hash, _RP_ID_HASH):
        return Refused(Reason.RP_ID)
    if not present:
        return Refused(Reason.NOT_PRESENT)
    return None if verified else Refused(Reason.NOT_VERIFIED)


def _why(error: Exception) -> Refused:
    """What the library found: a wrong signature, or something it could not read."""
    if isinstance(error, InvalidSignature) or isinstance(error.__context__, InvalidSignature):
        return Refused(Reason.SIGNATURE)
    if isinstance(error, UnsupportedAlgorithm | UnsupportedEC2Curve | UnsupportedPublicKey | UnsupportedPublicKeyType):
        return Refused(Reason.KEY, str(error)[:128])
    return Refused(Reason.MALFORMED, f"{type(error).__name__}: {error}"[:256])


def _read(client_data: bytes) -> dict[str, Any] | None:
    try:
        read = json.loads(client_data)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) else None


def _decoded(text: object) -> bytes | None:
    if not isinstance(text, str):
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
