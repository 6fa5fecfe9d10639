"""The page that asks for a passkey, and its headers; pure.

Laws:

1. Nothing comes from elsewhere: style and script are in the page, admitted by a nonce, and nothing else may load.
2. Names from the perimeter are escaped as text; what the script reads is JSON that cannot end its element.
3. Whoever sees the page reads which perimeter asks, for whom, on which machine, and for what.
"""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from string import Template
from typing import Any, Final, Literal

Kind = Literal["login", "registration"]

FIXED_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Server": "gloam",
    "X-Frame-Options": "DENY",
}
NOTHING_ALLOWED: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

_BUTTONS: Final[Mapping[Kind, str]] = {"login": "Use a passkey", "registration": "Make a passkey"}
_ASIDE: Final = (
    "This page comes from the command gloam on this computer, and only from there: your browser calls it “localhost”. "
    "If you did not start it, close this page."
)
_JSON_ESCAPES: Final = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


@dataclass(frozen=True, slots=True)
class Page:
    """What is asked, by whom and of whom. `public_key` is for the browser; `passkey` the name of a new one."""

    kind: Kind
    domain: str
    user: str
    device: str
    public_key: Mapping[str, Any]
    passkey: str = ""

    @property
    def heading(self) -> str:
        """What is asked, in a line."""
        return f"Log in to {self.domain}" if self.kind == "login" else "Add a passkey"


def headers(nonce: str | None = None) -> dict[str, str]:
    """The headers of every answer; with a nonce, those of the page."""
    policy = NOTHING_ALLOWED
    if nonce is not None:
        inline = f"style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
        policy = f"{NOTHING_ALLOWED}; {inline}; require-trusted-types-for 'script'"
    allowed = "publickey-credentials-get=(self), publickey-credentials-create=(self)"
    return {**FIXED_HEADERS, "Content-Security-Policy": policy, "Permissions-Policy": allowed}


def asking_page(page: Page, *, nonce: str, secret: str, seconds: float) -> str:
    """The page. `secret` is what its script shows when it answers, within `seconds`."""
    if page.kind == "login":
        lead = "Your browser will ask for your passkey, and for your PIN, finger or face to unlock it."
    else:
        lead = (
            "Your browser will ask where to make the passkey: in this computer, a security key or a phone. "
            "Choose one that asks for a PIN, a finger or your face."
        )
    facts = {"Person": page.user, "Perimeter": page.domain, "This machine": page.device}
    if page.passkey:
        facts["Passkey"] = page.passkey
    asked = {"kind": page.kind, "publicKey": dict(page.public_key), "secret": secret, "seconds": seconds}
    button = f'<button id="go" type="button" disabled>{html.escape(_BUTTONS[page.kind])}</button>'
    status = '<p id="told" role="status" aria-live="polite"></p>'
    without = "<noscript><p>This page needs JavaScript to talk to your browser.</p></noscript>"
    data = json.dumps(asked).translate(_JSON_ESCAPES)
    script = (
        f'<script id="asked" type="application/json" nonce="{nonce}">{data}</script>\n'
        f'<script nonce="{nonce}">{_part("page.js")}</script>'
    )
    return _filled(
        page.heading, page.domain, lead, facts, nonce, action=f"{button}\n{status}\n{without}", script=script
    )


def spent_page(page: Page, *, nonce: str) -> str:
    """What whoever comes a second time reads."""
    lead = (
        "This page was opened already, and opens once. Run the command again. "
        "If somebody else opened it, tell your administrator."
    )
    return _filled(page.heading, page.domain, lead, {}, nonce)


def _filled(
    heading: str, domain: str, lead: str, facts: Mapping[str, str], nonce: str, *, action: str = "", script: str = ""
) -> str:
    rows = "\n".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in facts.items())
    return Template(_part("page.html")).substitute(
        title=html.escape(f"{heading} · gloam"),
        domain=html.escape(domain),
        heading=html.escape(heading),
        lead=html.escape(lead),
        facts=rows,
        action=action,
        aside=html.escape(_ASIDE),
        style=_part("page.css"),
        nonce=nonce,
        script=script,
    )


def _part(name: str) -> str:
    return files("client.passkey").joinpath(name).read_text(encoding="utf-8")
