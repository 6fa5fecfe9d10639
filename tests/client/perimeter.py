"""A perimeter in this process, out of real doors, TLS and HTTP: what the client meets, but with answers a test can set.

Its controller judges nothing (the scenarios try the real one); it speaks the protocol, so that every answer the client
must handle can be given at will.
"""

import asyncio
import hmac
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import aiohttp
from aiohttp import web

from certs.names import Name, NameKind, Purpose
from certs.secret import Secret
from certs.verify import spki_sha256
from client.state import ClientState
from spa.packet import KnockKind, derive_key
from tests.client.gateway import DOMAIN, Authority, Gateway, Resource, make_door, now_us
from wire.http import HttpsServer
from wire.invite import BINDING_BYTES, BINDING_LABEL, Invite, InvitePurpose, enrol_proof, invite_knock_secret
from wire.limits import ALPN_HTTP
from wire.messages import (
    Address,
    Attach,
    Beat,
    ControllerAddress,
    Credential,
    EnrolReply,
    EnrolRequest,
    Explained,
    ExplainRequest,
    GivenUp,
    Heartbeat,
    LoginReply,
    LoginRequest,
    Logout,
    Message,
    OtpAsk,
    OtpProof,
    PasskeyAsk,
    PasswordAsk,
    PasswordProof,
    Refusal,
    Renew,
    ResourceView,
    Revoked,
    Session,
    SessionView,
    TotpEnrolmentAsk,
    decode,
    from_client,
    parse,
)
from wire.passkey import Purpose as Asked
from wire.passkey import challenge
from wire.tls import ServerTls, export_binding

TOTP_URI = "otpauth://totp/gloam:ada?secret=JBSWY3DPEHPK3PXP&issuer=gloam"


@dataclass
class Answers:
    """What the controller of a test says."""

    totp_enrolled: bool = True
    lifetime: timedelta = timedelta(minutes=10)
    user: str = "ada"
    password: str = "correct horse"
    otp: str = "123456"
    passkey_of: str = ""  # the perimeter a passkey is asked for by; none where it is empty
    resources: tuple[ResourceView, ...] = ()
    after_step_up: tuple[ResourceView, ...] = ()  # instead of them; the same ones where it is empty
    explained: dict[str, ResourceView] = field(default_factory=dict)
    attach_status: int = 200
    revoked_meanwhile: Revoked | None = None  # said where an explanation is asked for
    clock_error: timedelta = timedelta()
    enrol_refusal: tuple[int, Refusal] | None = None
    give_up_refusal: Refusal | None = None
    reply_change: dict[str, object] = field(default_factory=dict)


class Controller:
    def __init__(self, authority: Authority, gateways: list[Gateway]) -> None:
        self.name = Name(DOMAIN, NameKind.CONTROLLER, "main")
        self.authority = authority
        self.gateways = gateways
        self.answers = Answers()
        self.invites: dict[UUID, Invite] = {}
        self.device = Name(DOMAIN, NameKind.DEVICE, str(uuid4()))
        self.knock_secret = Secret.fresh()
        self.sessions: dict[UUID, SessionView] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.heard: list[Message] = []
        self.heard_news = asyncio.Condition()
        self.logins: list[LoginRequest] = []
        self.enrolments: list[UUID] = []
        self.given_up: list[Name] = []
        app = web.Application()
        app.router.add_post("/v1/enrol", self._enrol)
        app.router.add_post("/v1/login", self._login)
        app.router.add_post("/v1/device/give-up", self._give_up)
        app.router.add_get("/v1/session", self._session)
        tls = ServerTls(
            authority.identity(self.name),
            authority.trust,
            frozenset({Purpose.DEVICES}),
            require_client=False,
            alpn=(ALPN_HTTP,),
        )
        self.https = HttpsServer(app, tls)
        self.door, self.admission = make_door(
            frozenset({KnockKind.CONTROL, KnockKind.ENROL}), lambda sock, _source: self.https.accept(sock)
        )

    async def start(self) -> None:
        await self.https.start()
        await self.door.start()

    async def close(self) -> None:
        await self.door.close()
        for each in self.sockets:
            await each.close()
        await self.https.close()

    @property
    def address(self) -> ControllerAddress:
        return ControllerAddress(
            name="main",
            tls=Address(host="127.0.0.1", port=self.door.bound_listen.port),
            knock=Address(host="127.0.0.1", port=self.door.bound_knock.port),
        )

    def invite(self, purpose: InvitePurpose = InvitePurpose.DEVICE, **changes: object) -> Invite:
        values: dict[str, object] = {
            "id": uuid4(),
            "purpose": purpose,
            "subject": "ada" if purpose is InvitePurpose.DEVICE else "edge",
            "domain": DOMAIN,
            "controllers": (self.address,),
            "root_spki_sha256": spki_sha256(self.authority.trust.root),
            "expires": datetime.now(UTC) + timedelta(hours=1),
            "secret": Secret.fresh(),
        }
        invite = Invite(**(values | changes))  # type: ignore[arg-type]
        self.invites[invite.id] = invite
        key = derive_key(invite_knock_secret(invite.secret), self.name)
        self.admission.put(f"invite/{invite.id}", key, frozenset({KnockKind.ENROL}), now_us())
        return invite

    def now(self) -> datetime:
        return datetime.now(UTC) + self.answers.clock_error

    async def _enrol(self, request: web.Request) -> web.Response:
        asked = parse(EnrolRequest, await request.read())
        self.enrolments.append(asked.invite)
        if self.answers.enrol_refusal is not None:
            status, refusal = self.answers.enrol_refusal
            return web.Response(status=status, text=refusal.model_dump_json())
        invite = self.invites[asked.invite]
        assert request.transport is not None
        binding = export_binding(request.transport, BINDING_LABEL, b"", BINDING_BYTES)
        if not hmac.compare_digest(enrol_proof(invite.secret, binding, asked.csr.encode()), asked.proof):
            refusal = Refusal(code="invite_refused", sentence="this invite is not good here", fix="ask for a new one")
            return web.Response(status=403, text=refusal.model_dump_json())
        device = invite.purpose is InvitePurpose.DEVICE
        name = self.device if device else Name(DOMAIN, NameKind.GATEWAY, "edge")
        self.admit_device()
        reply = EnrolReply(
            id=name.id,
            user="ada" if device else "",
            certificate=self.authority.certify(asked.csr.encode(), name),
            trust=self.authority.trust.to_pem().decode(),
            knock_secret=self.knock_secret.reveal(),
            controllers=(self.address,),
            time=self.now(),
        )
        return web.Response(text=reply.model_copy(update=self.answers.reply_change).model_dump_json())

    def admit_device(self) -> None:
        key = derive_key(self.knock_secret, self.name)
        self.admission.put(f"device/{self.device.id}", key, frozenset({KnockKind.CONTROL}), now_us())
        for gateway in self.gateways:
            key = derive_key(self.knock_secret, gateway.name)
            gateway.admission.put(f"device/{self.device.id}", key, frozenset({KnockKind.TUNNEL}), now_us())

    def expect_another_device(self) -> None:
        """The next enrolment makes a device of its own, with a knock secret of its own."""
        self.device, self.knock_secret = Name(DOMAIN, NameKind.DEVICE, str(uuid4())), Secret.fresh()

    async def _give_up(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        if (refusal := self.answers.give_up_refusal) is not None:
            return web.Response(status=403, text=refusal.model_dump_json())
        self.given_up.append(request.transport.get_extra_info("peer"))
        return web.Response(text=GivenUp(time=self.now()).model_dump_json())

    async def _login(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        assert request.transport.get_extra_info("peer") == self.device
        asked = parse(LoginRequest, await request.read())
        self.logins.append(asked)
        answers = self.answers
        given = {proof.type: proof for proof in asked.proofs}
        password, otp = given.get("password"), given.get("otp")
        if asked.step_up:
            reply = self._step_up(request, otp)
        elif password is None:
            asks = (PasswordAsk(), self._passkey(request)) if answers.passkey_of else (PasswordAsk(),)
            reply = LoginReply(status="more", asks=asks, time=self.now())
        elif (asked.user, password) != (answers.user, PasswordProof(password=answers.password)):
            reply = LoginReply(
                status="refused", code="bad_login", sentence="wrong user name or password", time=self.now()
            )
        elif otp is None:
            ask = OtpAsk() if answers.totp_enrolled else TotpEnrolmentAsk(uri=TOTP_URI)
            reply = LoginReply(status="more", asks=(ask,), time=self.now())
        elif otp != OtpProof(code=answers.otp):
            reply = LoginReply(
                status="refused", code="bad_otp", sentence="wrong code", fix="wait for the next", time=self.now()
            )
        else:
            view = self.view(uuid4(), asked.csr.encode())
            self.sessions[view.id] = view
            reply = LoginReply(status="done", session=view, time=self.now())
        return web.Response(text=reply.model_dump_json())

    def _step_up(self, request: web.Request, otp: Message | None) -> LoginReply:
        answers = self.answers
        if otp is None:
            asks = (OtpAsk(), self._passkey(request)) if answers.passkey_of else (OtpAsk(),)
            return LoginReply(status="more", asks=asks, time=self.now())
        if otp != OtpProof(code=answers.otp):
            return LoginReply(
                status="refused", code="bad_otp", sentence="wrong code", fix="wait for the next", time=self.now()
            )
        answers.resources = answers.after_step_up or answers.resources
        (session,) = self.sessions
        self.sessions[session] = self.sessions[session].model_copy(update={"resources": answers.resources})
        return LoginReply(status="done", session=self.sessions[session], time=self.now())

    def _passkey(self, request: web.Request) -> PasskeyAsk:
        """A question for a passkey, over a challenge for the perimeter `answers.passkey_of` on this device."""
        assert request.transport is not None
        asked = challenge(
            os.urandom(32),
            Asked.LOGIN,
            domain=self.answers.passkey_of,
            root_sha256=spki_sha256(self.authority.trust.root),
            device=UUID(self.device.id),
            device_key_sha256=spki_sha256(request.transport.get_extra_info("peer_certificate")),
        )
        return PasskeyAsk(challenge=asked, credentials=(Credential(id=os.urandom(16)),))

    def view(self, session: UUID, csr: bytes) -> SessionView:
        name = Name(DOMAIN, NameKind.SESSION, str(session))
        return SessionView(
            id=session,
            user=self.answers.user,
            certificate=self.authority.certify(csr, name, self.answers.lifetime),
            valid_until=self.now() + self.answers.lifetime,
            resources=self.answers.resources,
            gateways=tuple(each.address for each in self.gateways),
        )

    async def _session(self, request: web.Request) -> web.StreamResponse:
        if self.answers.attach_status != 200:
            return web.Response(
                status=self.answers.attach_status, text=Refusal(code="no", sentence="no").model_dump_json()
            )
        socket_ = web.WebSocketResponse()
        await socket_.prepare(request)
        self.sockets.append(socket_)
        session: UUID | None = None
        async for received in socket_:
            assert received.type is aiohttp.WSMsgType.TEXT
            message = decode(from_client, received.data)
            async with self.heard_news:
                self.heard.append(message)
                self.heard_news.notify_all()
            match message:
                case Attach():
                    session = message.session
                    await self.tell(Session(session=self.sessions[session]))
                case Heartbeat():
                    await self.tell(Beat(time=self.now()))
                case Renew():
                    assert session is not None
                    self.sessions[session] = self.view(session, message.csr.encode())
                    await self.tell(Session(session=self.sessions[session]))
                case ExplainRequest():
                    known = {each.name: each for each in self.answers.resources} | self.answers.explained
                    if self.answers.revoked_meanwhile is not None:
                        await self.tell(self.answers.revoked_meanwhile)
                    elif message.resource in known:
                        await self.tell(Explained(resource=known[message.resource]))
                case Logout():
                    await self.tell(Revoked(code="logged_out", sentence="logged out"))
        return socket_

    async def tell(self, message: Message) -> None:
        await self.sockets[-1].send_str(message.model_dump_json())

    async def wait_for(self, kind: type[Message], count: int = 1) -> None:
        """Until that many messages of this kind have been heard."""
        async with asyncio.timeout(60), self.heard_news:
            await self.heard_news.wait_for(lambda: sum(isinstance(each, kind) for each in self.heard) >= count)


@dataclass
class Perimeter:
    authority: Authority
    controller: Controller
    gateways: list[Gateway]
    resource: Resource

    def device_state(self, directory: Path) -> ClientState:
        """A state directory that is enrolled."""
        from client.clock import Clock
        from client.profile import Profile

        self.controller.admit_device()
        state = ClientState(directory)
        profile = Profile(
            domain=DOMAIN, device=self.controller.device.id, user="ada", controllers=(self.controller.address,)
        )
        identity = self.authority.identity(self.controller.device)
        state.save_enrolment(profile, identity, self.authority.trust, self.controller.knock_secret, Clock())
        return state

    def wiki(self, **changes: object) -> ResourceView:
        values: dict[str, object] = {
            "name": "wiki",
            "port": 80,
            "protocol": "tcp",
            "gateways": tuple(each.name.id for each in self.gateways),
            "allowed": True,
        }
        return ResourceView(**(values | changes))  # type: ignore[arg-type]
