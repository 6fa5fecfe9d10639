"""The root key away from the controller: in a file of its own, which is needed only to sign an intermediate.

Laws:

1. The key of an intermediate is made by the controller and stays there; what travels is a request and a certificate.
2. Signing needs the root's file, its passphrase and a request: no state, no network.
3. A request is for one domain and purpose, and is signed by the root of that domain only.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from certs.errors import CertsError
from certs.issue import LARGEST_CSR, Issuer, load_private_key, private_key_pem, sign_intermediate
from certs.names import Purpose
from certs.secret import Secret
from certs.trust import Trust
from certs.verify import spki_sha256
from controller.errors import StorageError
from controller.safekeeping.encrypted import Key, Lock, read_file, write_new

LARGEST_REQUEST: Final = 32 * 1024
_KEY: Final = b"-----BEGIN PRIVATE KEY-----"


class SigningRequest(BaseModel):
    """What `ca request` writes and `ca sign` reads: an intermediate that the root shall sign."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
    gloam: Literal["intermediate request"] = "intermediate request"
    version: Literal[1] = 1
    domain: str = Field(max_length=253)
    purpose: Purpose
    root_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    csr: str = Field(max_length=LARGEST_CSR)


@dataclass(frozen=True, slots=True)
class Signed:
    """An intermediate that was signed."""

    purpose: Purpose
    certificate: x509.Certificate


def write_root(path: Path, root: Issuer, lock: Lock) -> None:
    """The root, key and certificate, as a new encrypted file. Raises StorageError."""
    data = root.certificate.public_bytes(Encoding.PEM) + private_key_pem(root.key).reveal()
    write_new(path, lock.encrypt(data))


def read_root(path: Path, passphrase: Secret) -> Issuer:
    """The root of a file that `write_root` made. Raises StorageError."""
    data = Key(passphrase=passphrase).decrypt(read_file(path), str(path))
    certificate, mark, key = data.partition(_KEY)
    try:
        root = Issuer(x509.load_pem_x509_certificate(certificate), load_private_key(Secret(mark + key)))
        Trust.of(root.certificate, [])
    except (ValueError, CertsError) as error:
        raise StorageError(
            f"{path} holds no root: {error}", "name the file of gloam-controller init --root-out"
        ) from None
    return root


def sign(root: Issuer, request_text: bytes, *, now: datetime) -> Signed:
    """The intermediate of a request. Raises StorageError for a request that is none, or of another root."""
    try:
        request = SigningRequest.model_validate_json(request_text[: LARGEST_REQUEST + 1], strict=False)
    except ValidationError:
        raise StorageError("this is no request for an intermediate", "make one: gloam-controller ca request") from None
    if request.root_sha256 != spki_sha256(root.certificate).hex():
        what = f"the request is for another root ({request.domain}, {request.root_sha256[:16]}…)"
        raise StorageError(what, "name the file of that root")
    try:
        certificate = sign_intermediate(root, request.csr.encode(), request.purpose, request.domain, now=now)
    except CertsError as error:
        raise StorageError(f"the request cannot be signed: {error}", "make a new one, and check the clock") from None
    return Signed(request.purpose, certificate)
