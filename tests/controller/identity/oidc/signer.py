"""An OpenID provider of the tests' own: it signs whatever it is told to, over real HTTP on loopback."""

import asyncio
import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from joserfc import jws
from joserfc.jwk import ECKey, Key

CLIENT: Final = "gloam"
SECRET: Final = "s3cret/+ with spaces"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Signer:
    """`tokens` makes the token endpoint's answer of the form; `metadata`, `jwks` and `userinfo` are what it serves.

    `instead` replaces the handler of a path, for what no provider should do.
    """

    def __init__(self) -> None:
        self.key: Key = ECKey.generate_key("P-256", parameters={"kid": "first"})
        self.first = self.key
        self.header: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.jwks: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        self.answer: dict[str, Any] = {}
        self.refusal: tuple[int, dict[str, Any]] | None = None
        self.instead: dict[str, Handler] = {}
        self.asked: list[str] = []
        self.forms: list[dict[str, str]] = []
        self.nonces: dict[str, str] = {}  # by code
        self.challenges: dict[str, str] = {}
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self._runner: web.AppRunner | None = None
        self.issuer = ""
        self._port = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.issuer = f"http://127.0.0.1:{self._port}"
        self.metadata = self.metadata or {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/auth",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "device_authorization_endpoint": f"{self.issuer}/device/auth",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
        }
        self.jwks = self.jwks or self.published(self.key)

    def reset(self) -> None:
        """A provider as good as at its start."""
        self.key = self.first
        self.claims, self.answer, self.instead, self.refusal = {}, {}, {}, None

    async def stop(self) -> None:
        """From now on nothing listens; `start` takes the same port again."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @staticmethod
    def published(*keys: Key) -> dict[str, Any]:
        return {"keys": [key.as_dict(private=False) for key in keys]}

    def agree(self, url: str) -> tuple[str, str]:
        """What a person's browser does at `url` when the person agrees: the code and the state of the redirect."""
        query = dict(parse_qsl(urlsplit(url).query))
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = f"code-{len(self.nonces)}"
        self.nonces[code], self.challenges[code] = query["nonce"], query["code_challenge"]
        return code, query["state"]

    def id_token(self, **claims: Any) -> str:
        now = int(self.clock().timestamp())
        whole = {"iss": self.issuer, "sub": "u-1", "aud": CLIENT, "iat": now, "exp": now + 300, **claims, **self.claims}
        header = {"alg": "ES256", "kid": self.key.kid, **self.header}
        payload = {name: value for name, value in whole.items() if value is not None}
        return jws.serialize_compact(header, json.dumps(payload), self.key, algorithms=[header["alg"]])

    async def _handle(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - one a path
        path = request.path
        self.asked.append(path)
        if path in self.instead:
            return await self.instead[path](request)
        match path:
            case "/.well-known/openid-configuration":
                return web.json_response(self.metadata)
            case "/jwks":
                return web.json_response(self.jwks)
            case "/userinfo" if self.userinfo is not None:
                return web.json_response(self.userinfo)
            case "/device/auth":
                self.forms.append({name: str(value) for name, value in (await request.post()).items()})
                page = f"{self.issuer}/device"
                document = {"device_code": "device-1", "user_code": "ABCD-EFGH", "verification_uri": page}
                return web.json_response({**document, "expires_in": 300, "interval": 5})
            case "/token":
                return await self._token(request)
            case _:
                return web.json_response({"error": "not_found"}, status=404)

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.forms.append({**form, "authorization": request.headers.get("Authorization", "")})
        if self.refusal is not None:
            status, document = self.refusal
            return web.json_response(document, status=status)
        claims: dict[str, Any] = {}
        if form["grant_type"] == "authorization_code":
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if urlsafe_b64encode(digest).rstrip(b"=").decode() != self.challenges.pop(form["code"], None):
                return web.json_response({"error": "invalid_grant"}, status=400)
            claims = {"nonce": self.nonces[form["code"]], "auth_time": int(self.clock().timestamp())}
        given = {"access_token": "access", "token_type": "Bearer", "refresh_token": f"refresh-{len(self.forms)}"}
        document = {**given, "id_token": self.id_token(**claims), **self.answer}
        return web.json_response({name: value for name, value in document.items() if value is not None})


async def forever(_: web.Request) -> web.StreamResponse:
    """Never answers."""
    await asyncio.sleep(60)
    raise web.HTTPNoContent


async def drips(request: web.Request) -> web.StreamResponse:
    """Begins an answer and never ends it."""
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(600):
        await response.write(b" ")
        await asyncio.sleep(0.1)
    return response


async def oversized(_: web.Request) -> web.StreamResponse:
    """More than anybody needs."""
    return web.json_response({"keys": [], "x": "x" * 300_000})


def elsewhere(url: str) -> Handler:
    """Sends whoever asks to `url`."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": url})

    return handler


def says(text: str, status: int = 200) -> Handler:
    """Answers with this text."""

    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text, status=status, content_type="application/json")

    return handler
