"""Every route declares whom it is for.

Laws:

1. A route whose handler declares no identity makes the application refuse to start (step-ca CVE-2026-30836: what nobody
   thought about fell through to allowed).
2. The peer must be exactly of the declared kind: a device is no gateway, and neither may pass for an invitee.
3. Whatever goes wrong is answered with a `Refusal`; what went wrong inside is in the log, not in the answer.
"""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, Final, TypeVar, assert_never

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from controller.api import refusals
from controller.api.peers import Invitee, KnownDevice, KnownGateway, Peer, Peers
from controller.devices.credentials import NOT_WELCOME
from controller.errors import StorageError
from wire.errors import RemoteError

_log = structlog.get_logger("api")

_DECLARED: Final = "gloam_identity"


class Identity(StrEnum):
    """Whom a route is for."""

    INVITE = "invite"
    DEVICE = "device"
    GATEWAY = "gateway"


class UndeclaredRoute(Exception):  # noqa: N818 - reads as what it is
    """A route that does not say whom it is for."""


H = TypeVar("H", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])


def requires(identity: Identity) -> Callable[[H], H]:
    """Declares whom a handler is for."""

    def declare(handler: H) -> H:
        setattr(handler, _DECLARED, identity)
        return handler

    return declare


def for_one(identity: Identity, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
    """A handler that serves several identities, each at a route of its own, declared for one of them."""

    @requires(identity)
    async def declared_handler(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    return declared_handler


def declared(handler: object) -> Identity | None:
    """Whom a handler is for; None if it does not say."""
    found = getattr(handler, _DECLARED, None)
    return found if isinstance(found, Identity) else None


def check_declared(app: web.Application) -> None:
    """Raises UndeclaredRoute unless every route, of sub-applications too, declares whom it is for."""
    for route in app.router.routes():
        if declared(route.handler) is None:
            raise UndeclaredRoute(f"{route.method} {route.resource} does not declare the identity it needs")


async def _check_at_start(app: web.Application) -> None:
    check_declared(app)


def is_for(peer: Peer, identity: Identity) -> bool:
    """Whether a route of that identity is for this peer."""
    match peer:
        case Invitee():
            return identity is Identity.INVITE
        case KnownDevice():
            return identity is Identity.DEVICE
        case KnownGateway():
            return identity is Identity.GATEWAY
        case _ as never:  # pragma: no cover
            assert_never(never)


def guarded(peers: Peers, *, body_bytes: int) -> web.Application:
    """An empty application that lets each peer reach the routes declared for it, and refuses to start with others."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await _admit(request, handler, peers)
        except web.HTTPException as error:
            return refusals.refuse(error.status, f"http_{error.status}", f"{error.reason}".lower())
        except RemoteError as error:
            return refusals.refuse(422, "protocol_error", str(error), "update gloam on this machine")
        except StorageError as error:
            _log.error("the database failed a request", path=request.path, reason=error.what)
            return refusals.refuse(503, "unavailable", "the controller cannot do this now", "try again in a moment")
        except (ConnectionError, TimeoutError):
            raise
        except Exception:  # noqa: BLE001 - the edge of the program: logged whole, told without details
            _log.exception("a request failed", path=request.path)
            return refusals.refuse(500, "internal", "the controller could not do this", "ask your administrator")

    app = web.Application(client_max_size=body_bytes, middlewares=[guard])
    app.on_startup.append(_check_at_start)
    app.on_response_prepare.append(_say_nothing_of_us)
    return app


async def _say_nothing_of_us(_request: web.Request, response: web.StreamResponse) -> None:
    """What serves this, and in which version, is nobody's business."""
    response.headers.popall("Server", None)


async def _admit(request: web.Request, handler: Handler, peers: Peers) -> web.StreamResponse:
    peer = await peers.identify(request)
    if peer is None:
        return refusals.refused(NOT_WELCOME)
    error: Any = request.match_info.http_exception
    if error is not None:
        raise error
    identity = declared(request.match_info.handler)
    if identity is None or not is_for(peer, identity):
        peers.refused(request, "wrong_identity")
        return refusals.refused(NOT_WELCOME)
    return await handler(request)
