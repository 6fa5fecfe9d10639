"""What the browser is asked for, from what the controller offered, and what it answered; pure.

Laws:

1. The controller says the challenge, the credentials and the person. That the relying party is `localhost` and that the
   person must be verified is ours to say.
2. A challenge that is not for this perimeter and this device is shown to nobody (`wire.passkey`).
3. What the browser sends is read as strictly as what a peer sends.
"""

import base64
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from console.errors import CommandError
from wire.errors import RemoteError
from wire.messages import AddPasskey, Credential, PasskeyAsk, PasskeyOffer, PasskeyProof, parse
from wire.passkey import NONCE_BYTES, RP_ID, Purpose, challenge

ALGORITHMS: Final = (-7, -8, -257)
"""COSE: ES256, EdDSA, RS256 (controller/identity/webauthn.py accepts these)."""


@dataclass(frozen=True, slots=True)
class Here:
    """This machine in its perimeter."""

    domain: str
    root_sha256: bytes
    device: UUID
    device_key_sha256: bytes

    def check(self, asked: bytes, purpose: Purpose) -> None:
        """Raises CommandError unless the challenge is for us (law 2)."""
        mine = challenge(
            asked[:NONCE_BYTES],
            purpose,
            domain=self.domain,
            root_sha256=self.root_sha256,
            device=self.device,
            device_key_sha256=self.device_key_sha256,
        )
        if not hmac.compare_digest(mine, asked):
            what = "the controller asked for a passkey with a challenge that is not for this machine"
            raise CommandError(what, "try again; if it happens twice, tell your administrator, and use no passkey")


def login_options(ask: PasskeyAsk, *, milliseconds: int) -> dict[str, Any]:
    """The `publicKey` of `navigator.credentials.get` (WebAuthn section 5.5); bytes are base64url text."""
    return {
        "challenge": _text(ask.challenge),
        "rpId": RP_ID,
        "allowCredentials": _credentials(ask.credentials),
        "userVerification": "required",
        "timeout": milliseconds,
    }


def registration_options(offer: PasskeyOffer, *, domain: str, milliseconds: int) -> dict[str, Any]:
    """The `publicKey` of `navigator.credentials.create` (WebAuthn section 5.4); bytes are base64url text.

    No resident key: whoever asks must know the passkey's identifier, which other pages on `localhost` do not.
    """
    shown = f"{offer.user} ({domain})"
    return {
        "challenge": _text(offer.challenge),
        "rp": {"id": RP_ID, "name": f"gloam {domain}"},
        "user": {"id": _text(offer.user_handle), "name": shown, "displayName": shown},
        "pubKeyCredParams": [{"type": "public-key", "alg": each} for each in ALGORITHMS],
        "excludeCredentials": _credentials(offer.exclude),
        "authenticatorSelection": {
            "residentKey": "discouraged",
            "requireResidentKey": False,
            "userVerification": "required",
        },
        "attestation": "none",
        "timeout": milliseconds,
    }


def proof_of(response: dict[str, Any], port: int) -> PasskeyProof:
    """What the page's script made of an assertion. Raises RemoteError."""
    return parse(PasskeyProof, json.dumps({**response, "type": "passkey", "port": port}))


def addition_of(response: dict[str, Any], port: int, name: str) -> AddPasskey:
    """What the page's script made of a new passkey. Raises RemoteError."""
    return parse(AddPasskey, json.dumps({**response, "type": "add", "port": port, "name": name}))


def read_posted(body: bytes) -> tuple[str, dict[str, Any]]:
    """The page's secret and the browser's response in what the page posted. Raises RemoteError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"secret": str(secret), "response": dict(response), **rest} if not rest:
            return secret, response
    raise RemoteError("not what the page sends")


def _credentials(known: Iterable[Credential]) -> list[dict[str, Any]]:
    return [{"type": "public-key", "id": _text(each.id), "transports": list(each.transports)} for each in known]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
