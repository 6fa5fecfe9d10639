"""`--oidc`: the person logs in at their provider; the controller judges what comes of it.

Laws:

1. Nothing is trusted or kept here: the browser's answer goes to the controller as it came, once.
2. The address is shown as well as opened: a browser may be on another machine, or be the wrong one.
3. Where a browser on this machine cannot be, the device flow is: an address and a code, typed anywhere.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Final
from uuid import UUID

from client.agent.messages import OidcBeginAnswer, OidcBeginCall, OidcFinishAnswer, OidcFinishCall
from client.agent.process import call_agent
from client.ask import raise_problem
from client.browser import open_browser
from client.proofs import Asking, given
from client.redirect import Redirect, Returned, listening
from client.state import ClientState
from console.errors import CommandError
from console.text import visible
from wire.messages import OidcBegin, OidcBegun, OidcFinish, OidcFinished, OidcProof, Proof

DEADLINE: Final = 60.0
"""Seconds for the agent's answer: every controller of the profile may be tried."""
_AGAIN: Final = "run gloam login --oidc again"


def prove(state: ClientState, provider: str | None, *, device_code: bool, browser: bool, fresh: bool) -> OidcProof:
    """What the provider says of the person, for a login or a change. Raises CommandError."""
    try:
        asked = OidcBegin(provider=provider, fresh=fresh)
    except ValueError:
        raise CommandError("that is no provider's name", "gloam login --oidc [PROVIDER]") from None
    way = _by_device_code(state, asked) if device_code else _by_browser(state, asked, browser=browser)
    return OidcProof(login=asyncio.run(way))


def beforehand(state: ClientState, asking: Asking, environ: Mapping[str, str]) -> tuple[Proof, ...]:
    """The proofs that the controller need not ask for: at the provider if they want it, by options and environment."""
    others = given(asking, environ)
    if (at := asking.at_provider) is None:
        return others
    return prove(state, at.name, device_code=at.device_code, browser=asking.browser, fresh=at.fresh), *others


async def _by_browser(state: ClientState, asked: OidcBegin, *, browser: bool) -> UUID:
    async with listening() as redirect:
        begun = await _begin(state, asked.model_copy(update={"port": redirect.port}))
        redirect.expect(begun.state or "")
        opened = browser and open_browser(begun.url)
        _say(f"{'A browser opens' if opened else 'Open'} this page of {begun.provider}, on this machine:\n{begun.url}")
        async with _strays_told(state, redirect, begun.login):
            returned = await _returned(redirect, begun)
    brought = OidcFinish(
        login=begun.login, code=returned.code, state=returned.state, issuer=returned.issuer, error=returned.error
    )
    finished = await _finish(state, brought)
    if finished.status != "proved":
        raise CommandError("the controller did not come to an end with the login", _AGAIN)
    return begun.login


async def _returned(redirect: Redirect, begun: OidcBegun) -> Returned:
    try:
        return await redirect.answer(_left(begun).total_seconds())
    except TimeoutError:
        raise CommandError("the browser did not come back in time", f"{_AGAIN}, or add --device-code") from None


@contextlib.asynccontextmanager
async def _strays_told(state: ClientState, redirect: Redirect, login: UUID) -> AsyncIterator[None]:
    """While the block waits: the first answer with another state is told to the person, and to the audit log."""

    async def tell() -> None:
        await redirect.stray.wait()
        _say(
            "Something came back from a browser that is no answer to this login; it was refused, and the login goes on."
        )
        with contextlib.suppress(CommandError):  # nobody can be told: that is no reason to end the login
            await _finish(state, OidcFinish(login=login, stray=True))

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        if not redirect.stray.is_set():
            telling.cancel()
        await asyncio.wait([telling])


async def _by_device_code(state: ClientState, asked: OidcBegin) -> UUID:
    begun = await _begin(state, asked)
    page = begun.page or begun.url
    _say(f"Open this page of {begun.provider}, on any machine:\n{page}\nand type there: {begun.user_code}")
    if begun.url != page:
        _say(f"or open this one, and compare the code:\n{begun.url}")
    wait = begun.interval_seconds
    try:
        async with asyncio.timeout(_left(begun).total_seconds()):
            while True:
                await asyncio.sleep(wait)
                finished = await _finish(state, OidcFinish(login=begun.login))
                if finished.status == "proved":
                    return begun.login
                wait = max(finished.interval_seconds, 0.5)
    except TimeoutError:
        raise CommandError("the code was not used in time", _AGAIN) from None


async def _begin(state: ClientState, asked: OidcBegin) -> OidcBegun:
    answer = await call_agent(state, OidcBeginCall(asked=asked), deadline=DEADLINE, start=True)
    raise_problem(answer)
    if not isinstance(answer, OidcBeginAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    return answer.begun


async def _finish(state: ClientState, brought: OidcFinish) -> OidcFinished:
    answer = await call_agent(state, OidcFinishCall(asked=brought), deadline=DEADLINE, start=True)
    raise_problem(answer)
    if not isinstance(answer, OidcFinishAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    finished = answer.finished
    if finished.status == "refused":
        raise CommandError(finished.sentence or "the login was refused", finished.fix or _AGAIN)
    return finished


def _left(begun: OidcBegun) -> timedelta:
    """How long the controller waits, by its own clock."""
    return begun.expires_at - begun.time


def _say(text: str) -> None:
    """To the person, past standard output: with --json that is a document's."""
    for line in text.splitlines():
        sys.stderr.write(f"{visible(line)}\n")
    sys.stderr.flush()
