"""Fuzz target: invites. First byte 0: a line of text as it comes; else packed bytes, with the checksum put right."""

import base64
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from certs.secret import Secret
from tests.fuzz.target import Reached, Target
from wire.invite import MAX_TEXT, PREFIX, BadInvite, Invite, InvitePurpose, encode_invite, parse_invite
from wire.messages import Address, ControllerAddress

LONGEST_REFUSAL: Final = 200
SECRET: Final = b"never shown, thirty-two bytes !!"


def check(data: bytes, reached: Reached) -> None:
    raw, body = data[:1] in {b"", b"\x00"}, data[1:]
    text = body.decode("utf-8", "surrogateescape") if raw else packed(body)
    try:
        invite = parse_invite(text)
    except BadInvite as error:
        reached(str(error))
        assert len(str(error)) <= LONGEST_REFUSAL
        assert error.fix
        return
    reached(invite.purpose)
    assert encode_invite(invite) == "".join(text.split()), "two texts are the same invite"
    assert 1 <= len(invite.controllers) <= 16
    assert SECRET.decode() not in repr(invite)
    for controller in invite.controllers:
        assert invite.name_of(controller).id == controller.name


def packed(data: bytes) -> str:
    """The text of an invite whose bytes, but for the checksum, are these."""
    checksum = hashlib.sha256(PREFIX.encode() + data).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(data + checksum).rstrip(b"=").decode()


def seeds() -> Iterator[bytes]:
    here = Address(host="192.0.2.1", port=443)
    main = ControllerAddress(name="main", tls=here, knock=Address(host="192.0.2.1", port=62201))
    spare = ControllerAddress(name="spare", tls=here, knock=Address(host="2001:db8::1", port=62201))
    for purpose, subject, controllers in (
        (InvitePurpose.DEVICE, "ada@example.test", (main,)),
        (InvitePurpose.GATEWAY, "edge", (main, spare)),
    ):
        text = encode_invite(
            Invite(
                id=UUID(int=1),
                purpose=purpose,
                subject=subject,
                domain="example.test",
                controllers=controllers,
                root_spki_sha256=bytes(range(32)),
                expires=datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC),
                secret=Secret(SECRET),
            )
        )
        yield b"\x00" + text.encode()
        yield b"\x00" + text[:40].encode() + b"\r\n  " + text[40:].encode()
        yield b"\x01" + base64.urlsafe_b64decode(text.removeprefix(PREFIX) + "===")[:-4]


WORDS: Final = (PREFIX.encode(), b"gloam-invite-v2.", b"\x0cexample.test", b"\x04main", b"\x09192.0.2.1", b"\xff", b"=")

TARGET: Final = Target(check, seeds, longest=MAX_TEXT + 64, words=WORDS)
