"""One question to the person's browser: from the controller's challenge to the controller's verdict.

The page is told how it went, so that nobody has to look at the terminal to know.
"""

import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from uuid import UUID

from certs.verify import spki_sha256
from client.browser import open_browser
from client.passkey.asking import Here, addition_of, login_options, proof_of, registration_options
from client.passkey.page import Page
from client.passkey.server import PageServer, serving
from client.state import ClientState
from console.errors import CommandError
from console.text import visible
from wire.errors import RemoteError
from wire.messages import AddPasskey, PasskeyAsk, PasskeyOffer, PasskeyProof
from wire.passkey import Purpose

SECONDS: Final = 280.0
"""For the person, less than the controller gives (controller/identity/challenges.py): what they see ends first."""

T = TypeVar("T")
Judge = Callable[[T], Awaitable[str]]
"""Hands an answer to the controller; says in words how it went. Raises CommandError where it was refused."""


async def ask_login(
    state: ClientState, ask: PasskeyAsk, user: str, judge: Judge[PasskeyProof], *, browser: bool
) -> None:
    """Has the person use a passkey. Raises CommandError."""
    here = _here(state)
    here.check(ask.challenge, Purpose.LOGIN)
    options = login_options(ask, milliseconds=_milliseconds())
    page = Page("login", here.domain, user, socket.gethostname(), options)
    await _ask(page, proof_of, judge, browser=browser)


async def ask_registration(
    state: ClientState, offer: PasskeyOffer, name: str, judge: Judge[AddPasskey], *, browser: bool
) -> None:
    """Has the person make a passkey. Raises CommandError."""
    here = _here(state)
    here.check(offer.challenge, Purpose.REGISTRATION)
    options = registration_options(offer, domain=here.domain, milliseconds=_milliseconds())
    page = Page("registration", here.domain, offer.user, socket.gethostname(), options, name)

    def read(response: dict[str, Any], port: int) -> AddPasskey:
        return addition_of(response, port, name)

    await _ask(page, read, judge, browser=browser)


async def _ask(page: Page, read: Callable[[dict[str, Any], int], T], judge: Judge[T], *, browser: bool) -> None:
    async with serving(page, SECONDS) as server:
        _show(server, browser=browser)
        response = await server.answer()
        try:
            words = await judge(read(response, server.port))
        except RemoteError as error:
            await server.tell("The browser's answer was not understood.", good=False)
            raise CommandError(f"the browser's answer is not understood: {error}", "try another browser") from error
        except CommandError as error:
            await server.tell(f"{_sentence(error.what)} {_sentence(error.fix)}", good=False)
            raise
        await server.tell(f"{words} You may close this page.", good=True)


def _show(server: PageServer, *, browser: bool) -> None:
    """The address goes to standard error: standard output is for the command's own result."""
    opened = browser and open_browser(server.url)
    said = (
        "Waiting for your browser. If it does not open, go to" if opened else "Open this in a browser on this machine:"
    )
    sys.stderr.write(f"{said}\n  {visible(server.url)}\n")
    sys.stderr.flush()


def _here(state: ClientState) -> Here:
    profile, trust, device = state.profile(), state.trust(), state.device()
    return Here(
        domain=profile.domain,
        root_sha256=spki_sha256(trust.root),
        device=UUID(profile.device),
        device_key_sha256=spki_sha256(device.leaf),
    )


def _milliseconds() -> int:
    return int(SECONDS * 1_000)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
