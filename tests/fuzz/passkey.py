"""Fuzz target: what browsers answer. First byte 0: an assertion, else a new passkey; then fields behind their lengths.

Nobody forges: the one assertion that counts is the one the authenticator signed. A new passkey that counts can be used.
"""

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from controller.identity.webauthn import Made, Refused, Signed, Stored, verify_assertion, verify_registration
from tests.controller.identity.authenticator import Authenticator
from tests.fuzz.target import Reached, Target
from wire.messages import AddPasskey, PasskeyProof

PORT: Final = 40_001
CHALLENGE: Final = bytes(range(64))
HANDLE: Final = bytes(32)
_LONGEST_DETAIL: Final = 256


def _authenticator() -> Authenticator:
    return Authenticator(Ed25519PrivateKey.from_private_bytes(bytes(32)), credential=bytes(range(32)))


KNOWN: Final = Stored(_authenticator().public_key(), 0, synced=False)
SIGNED: Final = _authenticator().response(CHALLENGE, PORT)
MADE: Final = _authenticator().registration(CHALLENGE, PORT)


def check(data: bytes, reached: Reached) -> None:
    fields = chain(_fields(data[1:]), repeat(b""))
    outcome: Signed | Made | Refused
    try:
        if data[:1] in {b"", b"\x00"}:
            told, signed, signature = next(fields), next(fields), next(fields)
            proof = PasskeyProof(
                port=PORT,
                credential=SIGNED["credential"],
                client_data=told,
                authenticator_data=signed,
                signature=signature,
            )
            outcome = verify_assertion(proof, KNOWN, challenge=CHALLENGE, handle=HANDLE)
            if isinstance(outcome, Signed):
                assert (told, signed) == (SIGNED["client_data"], SIGNED["authenticator_data"]), "forged"
        else:
            made = AddPasskey(
                name="key",
                port=PORT,
                credential=MADE["credential"],
                client_data=next(fields),
                attestation=next(fields),
            )
            outcome = verify_registration(made, challenge=CHALLENGE)
    except ValidationError:
        reached("form")
        return
    match outcome:
        case Refused(reason, detail):
            reached(f"{reason}")
            assert len(detail) <= _LONGEST_DETAIL
        case Made():
            reached("made")
            assert outcome.credential == MADE["credential"]
            assert outcome.sign_count >= 0
            stored = Stored(outcome.public_key, 0, outcome.synced)
            proof = PasskeyProof(**{**SIGNED, "signature": b"\x00" * 64})
            assert isinstance(verify_assertion(proof, stored, challenge=CHALLENGE, handle=HANDLE), Refused)
        case Signed():
            reached("signed")


def _fields(data: bytes) -> Iterator[bytes]:
    while data:
        length = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + length]
        data = data[2 + length :]


def _packed(*fields: bytes) -> bytes:
    return b"".join(len(each).to_bytes(2, "big") + each for each in fields)


def seeds() -> Iterator[bytes]:
    yield b"\x00" + _packed(SIGNED["client_data"], SIGNED["authenticator_data"], SIGNED["signature"])
    yield b"\x01" + _packed(MADE["client_data"], MADE["attestation"])


WORDS: Final = (b'"origin":"http://localhost:40001"', b'"crossOrigin":true', b"webauthn.create", b"none", b"packed")

TARGET: Final = Target(check, seeds, longest=14_000, words=WORDS)
