"""The routes of devices and gateways: `/v1/enrol`, `login`, `account`, `oidc/…`, `session`, `link`; more in renewal.py.

Limits are here, each with its reason; everything else is decided by the services.
"""

from collections import defaultdict
from typing import Final, Protocol
from uuid import UUID

from aiohttp import web

from certs.names import Name
from controller.api.bodies import BODY_BYTES, Bodies
from controller.api.passkeys import add_passkeys
from controller.api.peers import Peers, device_of, source_of
from controller.api.refusals import refused, respond
from controller.api.renewal import add_renewal
from controller.api.routes import Identity, guarded, requires
from controller.api.socket import SessionSocket
from controller.authority import Authority
from controller.devices.enrol import Enrolment
from controller.devices.renewal import Renewals
from controller.devices.seen import Seen
from controller.devices.service import Devices
from controller.gateways.link import Links
from controller.identity.account import Accounts
from controller.identity.login import Login
from controller.identity.oidc import OpenId
from controller.identity.passkey_wishes import PasskeyWishes
from controller.sessions.service import Sessions
from controller.storage.engine import Storage
from wire.invite import BINDING_BYTES, BINDING_LABEL
from wire.messages import AccountRequest, EnrolRequest, LoginRequest, Message, OidcBegin, OidcFinish, Refusal
from wire.tls import export_binding

SESSION_SOCKETS: Final = 8
"""Session sockets one device may have open: one lives, the others are being replaced."""


class Parts(Protocol):
    """What the routes need of a controller."""

    @property
    def name(self) -> Name: ...  # noqa: D102
    @property
    def storage(self) -> Storage: ...  # noqa: D102
    @property
    def authority(self) -> Authority: ...  # noqa: D102
    @property
    def enrolment(self) -> Enrolment: ...  # noqa: D102
    @property
    def login(self) -> Login: ...  # noqa: D102
    @property
    def openid(self) -> OpenId: ...  # noqa: D102
    @property
    def passkey_wishes(self) -> PasskeyWishes: ...  # noqa: D102
    @property
    def accounts(self) -> Accounts: ...  # noqa: D102
    @property
    def sessions(self) -> Sessions: ...  # noqa: D102
    @property
    def links(self) -> Links: ...  # noqa: D102
    @property
    def devices(self) -> Devices: ...  # noqa: D102
    @property
    def renewals(self) -> Renewals: ...  # noqa: D102
    @property
    def seen(self) -> Seen: ...  # noqa: D102
    def trust(self) -> str: ...  # noqa: D102


class _Sockets:
    """The session sockets that are open: a few a device, and none once the controller stops."""

    def __init__(self) -> None:
        self._by_device: defaultdict[UUID, set[SessionSocket]] = defaultdict(set)

    async def serve(self, device: UUID, client: SessionSocket, request: web.Request) -> web.StreamResponse:
        if len(self._by_device[device]) >= SESSION_SOCKETS:
            raise web.HTTPTooManyRequests
        self._by_device[device].add(client)
        try:
            return await client.serve(request)
        finally:
            self._by_device[device].discard(client)
            if not self._by_device[device]:
                del self._by_device[device]

    async def going_away(self, _app: web.Application) -> None:
        for clients in self._by_device.values():
            for client in clients:
                client.going_away()


def application(parts: Parts) -> web.Application:
    """The application that is served behind TLS; it refuses to start with a route that declares no identity."""
    note, clock = parts.storage.audit.note, parts.storage.clock
    seen, where = parts.seen.note, f"controller/{parts.name.id}"
    peers = Peers(parts.storage, parts.authority.signed, note, where, parts.renewals.used, seen=seen)
    bodies = Bodies(note)

    @requires(Identity.INVITE)
    async def enrol(request: web.Request) -> web.StreamResponse:
        asked = await bodies.read(EnrolRequest, request, None)
        if request.transport is None:
            raise ConnectionResetError
        binding = export_binding(request.transport, BINDING_LABEL, b"", BINDING_BYTES)
        return _answer(await parts.enrolment.enrol(asked, binding=binding, source=source_of(request)))

    @requires(Identity.DEVICE)
    async def login(request: web.Request) -> web.StreamResponse:
        device = device_of(request)
        asked = await bodies.read(LoginRequest, request, device)
        reply = await parts.login.login(asked, device=device, source=source_of(request))
        return respond(reply if reply.session is None else reply.model_copy(update={"trust": parts.trust()}))

    @requires(Identity.DEVICE)
    async def oidc_begin(request: web.Request) -> web.StreamResponse:
        device = device_of(request)
        asked = await bodies.read(OidcBegin, request, device)
        return _answer(await parts.openid.federation.begin(asked, device=device, source=source_of(request)))

    @requires(Identity.DEVICE)
    async def oidc_finish(request: web.Request) -> web.StreamResponse:
        device = device_of(request)
        asked = await bodies.read(OidcFinish, request, device)
        return respond(await parts.openid.federation.finish(asked, device=device, source=source_of(request)))

    @requires(Identity.DEVICE)
    async def account(request: web.Request) -> web.StreamResponse:
        device = device_of(request)
        asked = await bodies.read(AccountRequest, request, device)
        return respond(await parts.accounts.change(asked, device=device, source=source_of(request)))

    sockets = _Sockets()

    @requires(Identity.DEVICE)
    async def session(request: web.Request) -> web.StreamResponse:
        device = device_of(request)
        client = SessionSocket(
            parts.sessions,
            device=device,
            source=source_of(request),
            trust=parts.trust,
            note=note,
            seen=seen,
            clock=clock,
        )
        return await sockets.serve(device, client, request)

    @requires(Identity.GATEWAY)
    async def link(request: web.Request) -> web.StreamResponse:
        return await parts.links.handle(request)

    app = guarded(peers, body_bytes=BODY_BYTES)
    app.router.add_post("/v1/enrol", enrol)
    app.router.add_post("/v1/login", login)
    app.router.add_post("/v1/oidc/begin", oidc_begin)
    app.router.add_post("/v1/oidc/finish", oidc_finish)
    app.router.add_post("/v1/account", account)
    app.router.add_get("/v1/session", session, allow_head=False)
    app.router.add_get("/v1/link", link, allow_head=False)
    add_passkeys(app, parts.passkey_wishes, bodies)
    add_renewal(app, parts.renewals, parts.devices, bodies, clock)

    app.on_shutdown.append(sockets.going_away)
    return app


def _answer(message: Message) -> web.Response:
    return refused(message) if isinstance(message, Refusal) else respond(message)
