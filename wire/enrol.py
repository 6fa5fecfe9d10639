"""Enrolment, the newcomer's side: from an invite to an identity, for devices and gateways alike.

Laws:

1. The key is made here and stays here; the request carries a CSR, and a proof that the sender holds the invite, bound
   to the very TLS connection it travels in. A man in the middle has another connection, so its proof is another.
2. The server is believed only behind the pinned root of the invite, and the reply only if everything in it follows from
   that root: the trust bundle, the certificate over our own key, and the name it gives us.
3. The request is sent at most once: an invite is spent by its first use, and only the steps before it are tried again.
4. An invite is spent only where its fruit can be kept: one enrolment at a time holds a directory, and room on its disk,
   from before the first knock until the files are written.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from certs.errors import CertsError, StoreError
from certs.issue import make_csr, new_private_key, private_key_pem
from certs.names import Name, NameKind
from certs.secret import Secret
from certs.store import Identity, Trust
from certs.verify import name_of, spki_sha256
from wire.errors import RemoteError, TlsRefused, WireError
from wire.exchange import Dial, NoAnswer, post
from wire.invite import BINDING_BYTES, BINDING_LABEL, Invite, InvitePurpose, enrol_proof
from wire.limits import ALPN_HTTP
from wire.messages import Address, ControllerAddress, EnrolReply, EnrolRequest, Refusal, parse
from wire.tls import ClientTls, TlsTransport, export_binding

PATH: Final = "/v1/enrol"
LOCK: Final = "enrol.lock"
ROOM: Final = "enrol.room"
RESERVED_FILES: Final = 8
RESERVED_BYTES: Final = 16_384
"""A device or a gateway is six files out of one reply: more files, and twice the bytes, than MAX_REPLY allows it."""
_WRONG_SERVER: Final = frozenset({"wrong_pin", "wrong_root", "wrong_name", "wrong_domain", "wrong_issuer"})
_NEW_INVITE: Final = "ask the administrator for a new invite"


class EnrolFailed(WireError):  # noqa: N818 - reads as what it is
    """Enrolment came to nothing; `step` and `reason` are codes, `str()` a sentence, `fix` what to do."""

    def __init__(self, step: str, reason: str, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.step = step
        self.reason = reason
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What the newcomer is now. `clock_offset` is the controller's time minus ours; addresses are a gateway's own."""

    name: Name
    user: str
    identity: Identity
    trust: Trust
    controllers: tuple[ControllerAddress, ...]
    clock_offset: timedelta
    listen: Address | None
    knock: Address | None
    knock_secret: Secret = field(repr=False)
    advertise: Address | None = None


@contextmanager
def place(directory: Path) -> Iterator[Callable[[], None]]:
    """Holds `directory` for one enrolment, together with room on its disk; whoever holds it looks what is there.

    The answer gives the room back, for the moment of writing. Raises StoreError where another enrolment is at work or
    the files would not fit.
    """
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _no_room(directory, error) from error
    room = directory / ROOM
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what = f"another enrolment is at work in {directory}"
            raise StoreError(what, "wait until it has ended, or name another directory with --state DIR") from None
        try:
            _take_room(room)
            yield lambda: shutil.rmtree(room)
        finally:
            shutil.rmtree(room, ignore_errors=True)
    finally:
        os.close(descriptor)


def _take_room(room: Path) -> None:
    try:
        if room.exists():
            shutil.rmtree(room)  # of an enrolment that was killed
        room.mkdir(mode=0o700)
        for number in range(RESERVED_FILES):
            with (room / str(number)).open("xb") as file:
                file.write(os.urandom(RESERVED_BYTES))  # zeros would take no room where files are compressed
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise _no_room(room.parent, error) from error


def _no_room(directory: Path, error: OSError) -> StoreError:
    fix = "make room or mend its permissions, then use the same invite: it has not been sent"
    return StoreError(f"{directory} cannot keep what an enrolment brings: {error.strerror}", fix)


async def enrol(
    invite: Invite, controller: ControllerAddress, dial: Dial, *, device_name: str = "", platform: str = ""
) -> Enrolled:
    """Uses `invite` at `controller`. `dial` knocks and answers a connected, non-blocking socket; what it raises passes.

    Raises EnrolFailed. The caller judges whether the invite is still worth trying and stores what comes back.
    """
    key = new_private_key()
    csr = make_csr(key)

    asked = datetime.now(UTC)

    def request(transport: TlsTransport) -> EnrolRequest:
        nonlocal asked
        asked = datetime.now(UTC)  # once connected: knocking takes its time
        binding = export_binding(transport, BINDING_LABEL, b"", BINDING_BYTES)
        proof = enrol_proof(invite.secret, binding, csr)
        return EnrolRequest(invite=invite.id, proof=proof, csr=csr.decode(), device_name=device_name, platform=platform)

    expect = Name(invite.domain, NameKind.CONTROLLER, controller.name)
    tls = ClientTls.pinned(invite.root_spki_sha256, expect, alpn=(ALPN_HTTP,))
    try:
        status, body = await post(dial, tls, PATH, request)
    except TlsRefused as refused:
        fix = _NEW_INVITE if refused.reason in _WRONG_SERVER else "check the clock and try again"
        raise EnrolFailed("tls", refused.reason, str(refused), fix) from refused
    except NoAnswer as error:
        raise EnrolFailed("answer", error.reason, str(error), _again()) from error
    answered = datetime.now(UTC)
    if status != 200:  # noqa: PLR2004 (the one success)
        raise _refused(status, body)
    try:
        reply = parse(EnrolReply, body)
        return _checked(invite, reply, private_key_pem(key), reply.time - (asked + (answered - asked) / 2))
    except (RemoteError, CertsError, ValueError) as error:
        sentence = f"the controller's answer cannot be believed: {error}"
        raise EnrolFailed("reply", "bad_reply", sentence, _NEW_INVITE) from error


def _refused(status: int, body: bytes) -> EnrolFailed:
    try:
        refusal = parse(Refusal, body)
    except RemoteError:
        return EnrolFailed("refused", f"http_{status}", f"the controller answered with HTTP {status}", _again())
    return EnrolFailed("refused", refusal.code, refusal.sentence, refusal.fix or _NEW_INVITE)


def _checked(invite: Invite, reply: EnrolReply, key: Secret, offset: timedelta) -> Enrolled:
    trust = Trust.from_pem(reply.trust.encode())
    if spki_sha256(trust.root) != invite.root_spki_sha256 or trust.domain != invite.domain:
        raise RemoteError("its root is not the one of the invite")
    identity = Identity.from_pem(key, reply.certificate.encode())
    kind = NameKind.DEVICE if invite.purpose is InvitePurpose.DEVICE else NameKind.GATEWAY
    # The controller's time, not ours: it has just proved who it is, and a slow clock here must not look like an attack.
    name = name_of(identity.chain, anchors=trust.only(kind.purpose), domain=trust.domain, now=reply.time)
    if name != Name(invite.domain, kind, reply.id):
        raise RemoteError(f"it certifies {name}, which is not who it says we are")
    if kind is NameKind.GATEWAY and reply.id != invite.subject:
        raise RemoteError("it makes us another gateway than the invite does")
    return Enrolled(
        name,
        reply.user,
        identity,
        trust,
        reply.controllers,
        offset,
        reply.listen,
        reply.knock,
        Secret(reply.knock_secret),
        reply.advertise,
    )


def _again() -> str:
    return f"try again with the same invite; if it was used up, {_NEW_INVITE}"
