"""What devices and gateways say to renew certificate, key and knock secret; what a replaced device says last."""

from typing import Annotated, Literal

from pydantic import Field

from wire.messages.values import Blob, CsrPem, Hash32, Message, Pem, Text, Time

Spki = Annotated[Blob, Field(max_length=256)]
"""A public key as a certificate carries it (SubjectPublicKeyInfo, DER): 91 bytes for P-256."""
Signature = Annotated[Blob, Field(max_length=128)]
"""ECDSA over P-256 in DER: at most 72 bytes."""


class RenewRequest(Message):
    """Sent to `POST /v1/device/renew` or `/v1/gateway/renew` with the certificate that counts."""

    csr: CsrPem  # of the new key
    platform: Annotated[str, Field(max_length=128)] = ""  # as the device says it now


class RecoverRequest(Message):
    """Sent to `POST /v1/recover`, without a certificate, by whoever holds the key of one that has ended."""

    kind: Literal["device", "gateway"]
    id: Text  # the device's UUID, or the gateway's name
    public_key: Spki
    proof: Signature  # by that key, over wire.renewal.recovery_statement
    csr: CsrPem  # of the new key
    platform: Annotated[str, Field(max_length=128)] = ""


class RenewReply(Message):
    """The next certificate, for both requests. It counts beside the present one, and instead once it was used."""

    certificate: Pem  # leaf first, then the intermediate
    trust: Pem  # the root and every intermediate, as they are now
    knock_secret: Annotated[Hash32, Field(repr=False)]
    time: Time


class ConfirmReply(Message):
    """To `POST /v1/device/confirm` or `/v1/gateway/confirm`: who asked with this certificate has put it to use."""

    certified_until: Time
    time: Time


class GivenUp(Message):
    """To `POST /v1/device/give-up`: the device that asked is revoked, by its owner, who has another in its place."""

    time: Time
