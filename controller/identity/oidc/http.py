"""Questions to a provider over HTTP: bounded in size and time, and nothing followed.

Laws:

1. https alone, with the system's authorities; plain http to loopback alone (discovery.py checks every address).
2. An answer has at most `MOST_BYTES`, arrives within `DEADLINE`, and is one JSON object. A redirect is no answer.
3. What failed is told apart: `Unreachable` may pass by itself; `Misbehaved` will not.
4. No cookies, no proxies from the environment, no compression.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from controller.identity.oidc.discovery import BadMetadata, check_url

DEADLINE: Final = 5.0
"""Seconds for one question, from the name server to the last byte: a person waits, and so does their client."""
MOST_BYTES: Final = 262_144
"""A set of a hundred keys with certificates has 200 KiB."""
AT_ONCE: Final = 32
_BROKEN: Final = frozenset({408, 425, 429})


class Unreachable(Exception):  # noqa: N818 - reads as what it is
    """The provider did not answer, or said that it cannot now."""


class Misbehaved(Exception):  # noqa: N818 - reads as what it is
    """The provider answered what no provider should."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A status below 500, and the object that came with it."""

    status: int
    document: Mapping[str, Any]

    @property
    def good(self) -> bool:
        """Whether it is a success."""
        return self.status == 200  # noqa: PLR2004 - the one success of every endpoint asked here


class ProviderHttp:
    """Asks. Closed with `close`."""

    def __init__(self, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._client: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Ends every connection."""
        if self._client is not None:
            await self._client.close()

    async def get(self, url: str, *, bearer: str | None = None) -> Answer:
        """What is at `url`. Raises Unreachable, Misbehaved."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self._ask("GET", url, headers, None)

    async def post(self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """What `url` answers to a form. Raises Unreachable, Misbehaved."""
        return await self._ask("POST", url, dict(headers or {}), form)

    async def _ask(self, method: str, url: str, headers: dict[str, str], form: Mapping[str, str] | None) -> Answer:
        try:
            check_url(url, "the address")
        except BadMetadata as error:
            raise Misbehaved(str(error)) from None
        headers |= {"Accept": "application/json", "Accept-Encoding": "identity"}
        try:
            async with self._session().request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                body = await _bounded(response)
        except TimeoutError:
            raise Unreachable(f"no answer within {self._deadline:g} seconds") from None
        except aiohttp.ClientConnectorCertificateError:
            raise Misbehaved("its certificate is not good here") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unreachable(f"the connection failed ({type(error).__name__})") from None
        if response.status >= 500 or response.status in _BROKEN:  # noqa: PLR2004 - HTTP's server errors
            raise Unreachable(f"HTTP {response.status}")
        if 300 <= response.status < 400:  # noqa: PLR2004 - HTTP's redirects
            raise Misbehaved(f"HTTP {response.status}: a redirect where an answer belongs")
        return Answer(response.status, _parsed(body, response.status))

    def _session(self) -> aiohttp.ClientSession:
        """Made with the first question: it needs a running loop."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=AT_ONCE, limit_per_host=AT_ONCE),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._deadline),
                auto_decompress=False,
                trust_env=False,
            )
        return self._client


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        data += piece
        if len(data) > MOST_BYTES:
            raise Misbehaved(f"an answer of more than {MOST_BYTES} bytes")
    return bytes(data)


def _parsed(body: bytes, status: int) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    raise Misbehaved(f"HTTP {status} without a JSON object")
