"""Renewal: the next certificate, key and knock secret of a device or a gateway, from the holder's side.

Laws:

1. The key is made here and stays here. Nothing of the answer is believed but what follows from the root known so far:
   its trust bundle, and a certificate over our own new key, for our own name.
2. What counted goes on counting until what is new has been used (`confirm`), so whoever stops between two steps, for
   whatever reason, gets in with what is on the disk.
3. A holder whose certificate has ended proves the key of it instead (`recover`): a signature over the TLS connection
   and the signing request, worth nothing on another connection or for another key.
4. A device that another takes the place of says so itself (`give_up`), with the certificate that counts.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import CertsError
from certs.issue import load_private_key, make_csr, new_private_key, private_key_pem
from certs.names import Name, NameKind
from certs.secret import Secret
from certs.store import Identity, Trust
from certs.verify import name_of, spki_sha256
from wire.errors import LocalError, RemoteError, TlsRefused, WireError
from wire.exchange import Dial, NoAnswer, post
from wire.limits import ALPN_HTTP
from wire.messages import (
    ConfirmReply,
    ControllerAddress,
    GivenUp,
    Message,
    RecoverRequest,
    Refusal,
    RenewReply,
    RenewRequest,
    parse,
)
from wire.tls import ClientTls, TlsTransport, export_binding

M = TypeVar("M", bound=Message)

RECOVER: Final = "/v1/recover"
BINDING_LABEL: Final = b"EXPORTER-gloam-recover-v1"
"""The exporter's label (RFC 8446 section 7.5) for the recovery proof; its context is empty."""
BINDING_BYTES: Final = 32
_STATEMENT: Final = b"gloam recovery v1\0"
_LATER: Final = "it is tried again by itself"


class RenewalFailed(WireError):  # noqa: N818 - reads as what it is
    """No new certificate; `step` and `reason` are codes, `str()` a sentence, `fix` what to do. The old one stands."""

    def __init__(self, step: str, reason: str, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.step = step
        self.reason = reason
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Renewed:
    """What takes the place of the old, once it is on the disk whole. `time` is the controller's."""

    identity: Identity
    trust: Trust
    time: datetime
    knock_secret: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who renews: what it has now. `platform` is what it says of its machine."""

    identity: Identity
    trust: Trust
    platform: str = ""

    @property
    def name(self) -> Name:
        """The device or gateway."""
        return self.identity.name


def route(kind: NameKind, step: str) -> str:
    """The route of a step (`renew`, `confirm`; `give-up`, of devices alone) for a kind of holder."""
    return f"/v1/{kind}/{step}"


async def renew(holder: Holder, controller: ControllerAddress, dial: Dial) -> Renewed:
    """The next certificate, asked for with the one that counts. Raises RenewalFailed, or what `dial` raises."""
    key = new_private_key()
    request = RenewRequest(csr=make_csr(key).decode(), platform=holder.platform)
    tls = ClientTls(holder.identity, holder.trust, _expected(holder, controller), alpn=(ALPN_HTTP,))
    reply = await _asked(dial, tls, route(holder.name.kind, "renew"), lambda _: request, RenewReply)
    return _checked(holder, reply, private_key_pem(key))


async def recover(holder: Holder, controller: ControllerAddress, dial: Dial) -> Renewed:
    """The same with a certificate that has ended; `dial` knocks to enrol. Raises as `renew` does."""
    old, key = load_private_key(holder.identity.key), new_private_key()
    csr = make_csr(key)
    if holder.name.kind not in {NameKind.DEVICE, NameKind.GATEWAY}:
        raise LocalError("only devices and gateways recover")

    def request(transport: TlsTransport) -> Message:
        binding = export_binding(transport, BINDING_LABEL, b"", BINDING_BYTES)
        return RecoverRequest(
            kind="device" if holder.name.kind is NameKind.DEVICE else "gateway",
            id=holder.name.id,
            public_key=_spki(old.public_key()),
            proof=old.sign(recovery_statement(holder.name, binding, csr), ec.ECDSA(hashes.SHA256())),
            csr=csr.decode(),
            platform=holder.platform,
        )

    tls = ClientTls(None, holder.trust, _expected(holder, controller), alpn=(ALPN_HTTP,))
    return _checked(holder, await _asked(dial, tls, RECOVER, request, RenewReply), private_key_pem(key))


async def confirm(holder: Holder, controller: ControllerAddress, dial: Dial) -> ConfirmReply:
    """Puts the identity of `holder` to use: what came before it counts no more. Raises as `renew` does."""
    tls = ClientTls(holder.identity, holder.trust, _expected(holder, controller), alpn=(ALPN_HTTP,))
    return await _asked(dial, tls, route(holder.name.kind, "confirm"), lambda _: Message(), ConfirmReply)


async def give_up(holder: Holder, controller: ControllerAddress, dial: Dial) -> GivenUp:
    """Has the controller revoke the device `holder`, which another has replaced. Raises as `renew` does."""
    tls = ClientTls(holder.identity, holder.trust, _expected(holder, controller), alpn=(ALPN_HTTP,))
    return await _asked(dial, tls, route(holder.name.kind, "give-up"), lambda _: Message(), GivenUp)


def retry_after(left: timedelta, chance: float) -> float:
    """Seconds until a renewal that failed is tried again; `left` of the certificate's life, `chance` in [0, 1).

    While there is time, a twentieth of it, an hour at most: an outage costs little traffic. Once it has ended its
    holder is out of service, and waits some seconds.
    """
    wait = min(max(left.total_seconds() / 20, 1.0), 3600.0) if left > timedelta() else 5.0
    return wait * (0.5 + chance)


def recovery_statement(name: Name, binding: bytes, csr: bytes) -> bytes:
    """What the old key signs: who asks, on the connection with this exporter `binding`, for this CSR (PEM)."""
    if len(binding) != BINDING_BYTES:
        raise LocalError(f"a binding is {BINDING_BYTES} bytes of the TLS exporter")
    return _STATEMENT + binding + hashlib.sha256(str(name).encode()).digest() + hashlib.sha256(csr).digest()


def key_sha256(public_key: bytes) -> bytes:
    """What the controller knows a public key (SPKI, DER) by: 32 bytes, as `certs.verify.spki_sha256`."""
    return hashlib.sha256(public_key).digest()


def proves(public_key: bytes, proof: bytes, statement: bytes) -> bool:
    """Whether `proof` is a signature of this public key (SPKI, DER; P-256) over `statement`."""
    try:
        key = serialization.load_der_public_key(public_key)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            return False
        key.verify(proof, statement, ec.ECDSA(hashes.SHA256()))
    except (ValueError, UnsupportedAlgorithm, InvalidSignature):
        return False
    return True


def _expected(holder: Holder, controller: ControllerAddress) -> Name:
    return Name(holder.name.domain, NameKind.CONTROLLER, controller.name)


async def _asked(dial: Dial, tls: ClientTls, path: str, make: Callable[[TlsTransport], Message], model: type[M]) -> M:
    try:
        status, body = await post(dial, tls, path, make)
    except TlsRefused as refused:
        raise RenewalFailed("tls", refused.reason, f"the TLS handshake failed: {refused}", _LATER) from refused
    except NoAnswer as error:
        raise RenewalFailed("answer", error.reason, str(error), _LATER) from error
    try:
        if status != 200:  # noqa: PLR2004 (the one success)
            refusal = parse(Refusal, body)
            raise RenewalFailed("refused", refusal.code, refusal.sentence, refusal.fix or _LATER)
        return parse(model, body)
    except RemoteError as error:
        sentence = f"the controller's answer (HTTP {status}) is not understood: {error}"
        fix = "update gloam; the controller speaks another version"
        raise RenewalFailed("answer", "bad_answer", sentence, fix) from error


def _checked(holder: Holder, reply: RenewReply, key: Secret) -> Renewed:
    try:
        return _believed(holder, reply, key)
    except (RemoteError, CertsError, ValueError) as error:
        sentence = f"the controller's answer cannot be believed: {error}"
        raise RenewalFailed("reply", "bad_reply", sentence, "tell the administrator") from error


def _believed(holder: Holder, reply: RenewReply, key: Secret) -> Renewed:
    trust = Trust.from_pem(reply.trust.encode())
    if spki_sha256(trust.root) != spki_sha256(holder.trust.root) or trust.domain != holder.trust.domain:
        raise RemoteError("its root is another one")
    identity = Identity.from_pem(key, reply.certificate.encode())
    # The controller's time, not ours: it has just proved who it is, and a slow clock here is no attack.
    anchors = trust.only(holder.name.purpose)
    name = name_of(identity.chain, anchors=anchors, domain=trust.domain, now=reply.time)
    if name != holder.name:
        raise RemoteError(f"it certifies {name}, which is not who we are")
    return Renewed(identity, trust, reply.time, Secret(reply.knock_secret))


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
