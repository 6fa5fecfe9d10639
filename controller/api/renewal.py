"""The routes of renewal: `POST /v1/device/renew` and `confirm`, the same for gateways, `recover`; `device/give-up`."""

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from certs.names import Name, NameKind
from controller.api.bodies import Bodies
from controller.api.peers import device_of, source_of
from controller.api.refusals import refused, respond
from controller.api.routes import Identity, for_one, requires
from controller.devices.credentials import NOT_WELCOME
from controller.devices.renewal import Renewals
from controller.devices.service import Devices
from wire.messages import ConfirmReply, GivenUp, Message, RecoverRequest, Refusal, RenewRequest
from wire.renewal import BINDING_BYTES, BINDING_LABEL, RECOVER, route
from wire.tls import export_binding


def add_renewal(
    app: web.Application, renewals: Renewals, devices: Devices, bodies: Bodies, clock: Callable[[], datetime]
) -> None:
    """Adds the routes to `app`, which is guarded."""

    async def renew(request: web.Request) -> web.StreamResponse:
        name = _name(request)
        asked = await bodies.read(RenewRequest, request, device_of(request) if name.kind is NameKind.DEVICE else None)
        return _answer(await renewals.renew(asked, name, source=source_of(request)))

    async def confirm(request: web.Request) -> web.StreamResponse:
        """There is nothing to do: that they came with their certificate is the news, and the guard has noticed it."""
        until = await renewals.certified_until(_name(request))
        return refused(NOT_WELCOME) if until is None else respond(ConfirmReply(certified_until=until, time=clock()))

    @requires(Identity.DEVICE)
    async def give_up(request: web.Request) -> web.StreamResponse:
        """Who asks proves to be the device, and gives up nothing but it: a thief of its key ends their own way in."""
        await devices.give_up(device_of(request))
        return respond(GivenUp(time=clock()))

    @requires(Identity.INVITE)
    async def recover(request: web.Request) -> web.StreamResponse:
        asked = await bodies.read(RecoverRequest, request, None)
        if request.transport is None:
            raise ConnectionResetError
        binding = export_binding(request.transport, BINDING_LABEL, b"", BINDING_BYTES)
        answer = _answer(await renewals.recover(asked, binding=binding, source=source_of(request)))
        answer.force_close()  # the proof is good for this connection alone, and so for one request
        return answer

    app.router.add_post(RECOVER, recover)
    app.router.add_post(route(NameKind.DEVICE, "give-up"), give_up)
    for kind, identity in ((NameKind.DEVICE, Identity.DEVICE), (NameKind.GATEWAY, Identity.GATEWAY)):
        app.router.add_post(route(kind, "renew"), for_one(identity, renew))
        app.router.add_post(route(kind, "confirm"), for_one(identity, confirm))


def _name(request: web.Request) -> Name:
    """Who asks, where the guard has let only devices or only gateways in."""
    name = request.transport.get_extra_info("peer") if request.transport is not None else None
    if not isinstance(name, Name):
        raise web.HTTPForbidden
    return name


def _answer(message: Message) -> web.Response:
    return refused(message) if isinstance(message, Refusal) else respond(message)
