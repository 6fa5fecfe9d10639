"""Every route declares whom it is for, and nobody else gets in."""

from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from sqlalchemy import update

from certs import Identity, NameKind, make_csr, new_private_key, private_key_pem
from controller.api import application
from controller.api.peers import Invitee, KnownDevice, KnownGateway, Peers
from controller.api.routes import Identity as For
from controller.api.routes import UndeclaredRoute, declared, guarded, is_for, requires
from controller.errors import StorageUnavailable
from controller.storage.models import Device, Gateway
from tests.controller.perimeter import Perimeter
from tests.controller.served import Served
from wire.messages import Refusal

DEVICE = KnownDevice(uuid4())


async def undeclared(request: web.Request) -> web.Response:
    return web.Response()


async def start(app: web.Application) -> None:
    runner = web.AppRunner(app)
    try:
        await runner.setup()
    finally:
        await runner.cleanup()


async def test_a_route_that_declares_nobody_stops_the_start(perimeter: Perimeter) -> None:
    app = application(perimeter)
    await start(app)
    app = application(perimeter)
    app.router.add_get("/v1/new", undeclared)
    with pytest.raises(UndeclaredRoute, match="/v1/new"):
        await start(app)


async def test_neither_does_one_of_a_part(perimeter: Perimeter) -> None:
    app, part = application(perimeter), web.Application()
    part.router.add_get("/new", undeclared)
    app.add_subapp("/part", part)
    with pytest.raises(UndeclaredRoute):
        await start(app)


async def test_every_route_there_is_says_whom_it_is_for(perimeter: Perimeter) -> None:
    routes = {route.resource.canonical: declared(route.handler) for route in application(perimeter).router.routes()}
    assert routes == {
        "/v1/account": For.DEVICE,
        "/v1/enrol": For.INVITE,
        "/v1/login": For.DEVICE,
        "/v1/oidc/begin": For.DEVICE,
        "/v1/oidc/finish": For.DEVICE,
        "/v1/passkeys": For.DEVICE,
        "/v1/session": For.DEVICE,
        "/v1/link": For.GATEWAY,
        "/v1/recover": For.INVITE,
        "/v1/device/renew": For.DEVICE,
        "/v1/device/confirm": For.DEVICE,
        "/v1/device/give-up": For.DEVICE,
        "/v1/gateway/renew": For.GATEWAY,
        "/v1/gateway/confirm": For.GATEWAY,
    }


@pytest.mark.parametrize(
    ("peer", "identity"), [(Invitee(), For.INVITE), (DEVICE, For.DEVICE), (KnownGateway("edge"), For.GATEWAY)]
)
def test_a_route_is_for_exactly_one_kind(peer: object, identity: For) -> None:
    assert [each for each in For if is_for(peer, each)] == [identity]


PATHS = [("POST", "/v1/enrol"), ("POST", "/v1/login"), ("GET", "/v1/session"), ("GET", "/v1/link")]
RENEWAL = [("POST", f"/v1/{kind}/{step}") for kind in ("device", "gateway") for step in ("renew", "confirm")]
PATHS += [*RENEWAL, ("POST", "/v1/device/give-up"), ("POST", "/v1/recover")]


async def ask(client: aiohttp.ClientSession, method: str, path: str) -> tuple[int, Refusal]:
    async with client.request(method, path, data=b"{}" if method == "POST" else None) as response:
        assert "Server" not in response.headers
        return response.status, Refusal.model_validate_json(await response.read())


@pytest.mark.parametrize(
    ("who", "own"),
    [
        ("stranger", {"/v1/enrol", "/v1/recover"}),
        ("device", {"/v1/login", "/v1/session", "/v1/device/renew", "/v1/device/confirm", "/v1/device/give-up"}),
        ("gateway", {"/v1/link", "/v1/gateway/renew", "/v1/gateway/confirm"}),
    ],
)
async def test_nobody_gets_in_elsewhere(served: Served, who: str, own: set[str]) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    await perimeter.add_gateway("edge", enrolled=False)
    identity = {
        "stranger": lambda: None,
        "device": None,
        "gateway": None,
    }
    if who == "device":
        identity = (await perimeter.enrol("alice")).identity
    elif who == "gateway":
        identity = await perimeter.join("edge")
    else:
        identity = None
    client = served.client(identity)
    for method, path in PATHS:
        if path in own:
            continue
        assert (await ask(client, method, path))[0] == 403
    events = await perimeter.events("handshake.refused")
    assert {event.code for event in events} == {"wrong_identity"}
    assert {event.detail.split()[1] for event in events} == {path for _, path in PATHS} - own
    status, refusal = await ask(client, "GET", "/nowhere")
    assert (status, refusal.code) == (404, "http_404")


async def certified(perimeter: Perimeter, kind: NameKind, identifier: str) -> Identity:
    """A certificate of ours that no row knows the key of."""
    from datetime import timedelta

    key = new_private_key()
    name = perimeter.authority.name(kind, identifier)
    issued = perimeter.authority.issue(name, make_csr(key).decode(), now=perimeter.clock(), lifetime=timedelta(hours=1))
    return Identity.from_pem(private_key_pem(key), issued.chain_pem.encode())


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("revoked", "device_revoked"),
        ("replaced", "key_replaced"),
        ("unknown", "device_unknown"),
        ("gateway_unknown", "gateway_unknown"),
        ("gateway_replaced", "key_replaced"),
        ("controller", "wrong_kind"),
    ],
)
async def test_a_certificate_that_does_not_count_any_more(served: Served, case: str, reason: str) -> None:
    perimeter = served.perimeter
    await perimeter.add_user("alice")
    await perimeter.add_gateway("edge", enrolled=False)
    identity = (await perimeter.enrol("alice")).identity
    match case:
        case "revoked":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Device).values(revoked_at=perimeter.clock()))
        case "replaced":
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Device).values(key_sha256=bytes(32)))
        case "unknown":
            identity = await certified(perimeter, NameKind.DEVICE, str(uuid4()))
        case "gateway_unknown":
            identity = await certified(perimeter, NameKind.GATEWAY, "west")
        case "gateway_replaced":
            identity = await perimeter.join("edge")
            async with perimeter.storage.change() as change:
                await change.db.execute(update(Gateway).values(key_sha256=bytes(32)))
        case "controller":
            identity = await certified(perimeter, NameKind.CONTROLLER, "other")
    answers = {await ask(served.client(identity), method, path) for method, path in PATHS[1:]}
    assert {(status, refusal.code) for status, refusal in answers} == {(403, "not_welcome")}
    events = await perimeter.events("handshake.refused")
    assert {(event.code, event.presented) for event in events} == {(reason, str(identity.name))}


async def test_a_gateway_that_never_joined_has_no_link(served: Served) -> None:
    await served.perimeter.add_gateway("edge", enrolled=False)
    identity = await certified(served.perimeter, NameKind.GATEWAY, "edge")
    assert (await ask(served.client(identity), "GET", "/v1/link"))[0] == 403


async def test_what_goes_wrong_inside_stays_inside(perimeter: Perimeter) -> None:
    """Failures of every kind, told as refusals."""
    failures = {
        "/database": (StorageUnavailable("secret place"), 503),
        "/bug": (ValueError("secret bug"), 500),
        "/http": (web.HTTPTooManyRequests(), 429),
    }
    note, signed = perimeter.storage.audit.note, perimeter.authority.signed
    peers = Peers(perimeter.storage, signed, note, "controller/main", perimeter.renewals.used, seen=perimeter.seen.note)
    app = guarded(peers, body_bytes=10)
    for path, (failure, _) in failures.items():

        @requires(For.INVITE)
        async def fail(request: web.Request, failure: Exception = failure) -> web.Response:
            raise failure

        app.router.add_get(path, fail)

    @requires(For.INVITE)
    async def read(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app.router.add_post("/read", read)
    from aiohttp.test_utils import TestClient, TestServer

    async with TestClient(TestServer(app)) as client:
        for path, (_, status) in failures.items():
            response = await client.get(path)
            text = await response.text()
            assert response.status == status
            assert Refusal.model_validate_json(text)
            assert "secret" not in text
        response = await client.post("/read", data=b"x" * 11)
        assert response.status == 413
        assert Refusal.model_validate_json(await response.text())
