"""A person at a provider's pages: follows redirects, fills in the forms, agrees, until there is no form any more.

`python browser.py USER PASSWORD URL` as `$BROWSER` is what `gloam login --oidc` opens. Nothing of gloam is in it.
"""

import sys
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, Request, build_opener

MOST_PAGES = 12


class Forms(HTMLParser):
    """The forms of a page: where each goes, its fields, and whether it cancels something."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.fields: list[dict[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(found)
            self.fields.append({})
        elif tag == "input" and self.forms and found.get("name"):
            self.fields[-1][found["name"]] = found.get("value", "")


def visit(url: str, user: str, password: str, user_code: str = "") -> str:
    """Logs in and agrees; answers the text of the last page."""
    opener = build_opener(HTTPCookieProcessor(CookieJar()))
    answers = {"login": user, "password": password} | ({"user_code": user_code} if user_code else {})
    data: bytes | None = None
    for _ in range(MOST_PAGES):
        with opener.open(Request(url, data=data), timeout=30) as response:  # noqa: S310 - a test's own provider
            url, text = response.url, response.read().decode()
        page = Forms()
        page.feed(text)
        if not page.forms:
            return text
        url = urljoin(url, page.forms[0].get("action") or url)
        fields = page.fields[0]
        data = urlencode({**fields, **{name: value for name, value in answers.items() if name in fields}}).encode()
    raise SystemExit("the provider has more pages than that")


if __name__ == "__main__":
    visit(sys.argv[3], sys.argv[1], sys.argv[2])
