"""Passkeys: a page in the person's browser asks an authenticator; the command that served it passes the answer on.

- ``asking``    what the browser is asked, and what it answered (pure)
- ``page``      the page and its headers (pure); ``page.html``, ``page.css``, ``page.js`` are its parts
- ``server``    serves the page on loopback, once
- ``ceremony``  one question from the controller's challenge to the controller's verdict
- ``commands``  `gloam passkey add`, `list`, `remove`
"""
