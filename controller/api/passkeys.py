"""The route of a live session's passkeys: `POST /v1/passkeys`."""

from aiohttp import web

from controller.api.bodies import Bodies
from controller.api.peers import device_of, source_of
from controller.api.refusals import respond
from controller.api.routes import Identity, requires
from controller.identity.passkey_wishes import PasskeyWishes
from wire.messages import PasskeyRequest


def add_passkeys(app: web.Application, wishes: PasskeyWishes, bodies: Bodies) -> None:
    """Adds the route to `app`, which is guarded."""

    @requires(Identity.DEVICE)
    async def passkeys(request: web.Request) -> web.StreamResponse:
        device = device_of(request)
        asked = await bodies.read(PasskeyRequest, request, device)
        return respond(await wishes.answer(asked, device=device, source=source_of(request)))

    app.router.add_post("/v1/passkeys", passkeys)
