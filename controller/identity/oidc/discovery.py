"""What a provider says about itself: OpenID Connect Discovery 1.0 and RFC 8414 (pure).

Laws:

1. The document's `issuer` is the one that was asked for, character by character: a provider cannot speak for another.
2. Every address is https. Plain http is for loopback alone, where tests are.
3. A provider that lists its PKCE methods without S256, or its response types without `code`, is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

LONGEST_URL: Final = 2_000
WELL_KNOWN: Final = "/.well-known/openid-configuration"


class BadMetadata(ValueError):  # noqa: N818 - reads as what it is
    """A document or an address that is not used; the text says why."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where a provider is asked what."""

    issuer: str
    authorization: str
    token: str
    keys: str
    userinfo: str | None
    device: str | None
    says_issuer: bool  # its redirects carry `iss` (RFC 9207): one without it is refused
    secret_in_body: bool  # it knows `client_secret_post` and not `client_secret_basic`


def check_url(text: object, what: str) -> str:
    """`text` if it is an address we may ask. Raises BadMetadata."""
    if not isinstance(text, str) or not text or len(text) > LONGEST_URL:
        raise BadMetadata(f"{what} is no address")
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise BadMetadata(f"{what} has characters that no address has")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise BadMetadata(f"{what} is no address") from None
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise BadMetadata(f"{what} has no host, or has more than an address needs")
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host)):
        return text
    raise BadMetadata(f"{what} is not https")


def check_issuer(text: str) -> str:
    """`text` if it can be an issuer. Raises BadMetadata."""
    check_url(text, "the issuer")
    if "?" in text:
        raise BadMetadata("the issuer has a query")
    return text


def is_loopback(host: str) -> bool:
    """Is this host this machine, whatever a name server says?"""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def document_url(issuer: str) -> str:
    """Where an issuer describes itself."""
    return issuer.removesuffix("/") + WELL_KNOWN


def parse_metadata(document: Mapping[str, Any], issuer: str) -> Metadata:
    """What `issuer`'s document says. Raises BadMetadata."""
    if document.get("issuer") != issuer:
        raise BadMetadata(f"it calls itself {str(document.get('issuer'))[:200]!a}, not {issuer}")
    _listed(document, "response_types_supported", "code")
    _listed(document, "code_challenge_methods_supported", "S256")
    methods = document.get("token_endpoint_auth_methods_supported")
    posts = isinstance(methods, Sequence) and "client_secret_post" in methods and "client_secret_basic" not in methods
    return Metadata(
        issuer=issuer,
        authorization=check_url(document.get("authorization_endpoint"), "authorization_endpoint"),
        token=check_url(document.get("token_endpoint"), "token_endpoint"),
        keys=check_url(document.get("jwks_uri"), "jwks_uri"),
        userinfo=_optional(document, "userinfo_endpoint"),
        device=_optional(document, "device_authorization_endpoint"),
        says_issuer=document.get("authorization_response_iss_parameter_supported") is True,
        secret_in_body=posts,
    )


def _optional(document: Mapping[str, Any], name: str) -> str | None:
    return None if document.get(name) is None else check_url(document[name], name)


def _listed(document: Mapping[str, Any], name: str, wanted: str) -> None:
    listed = document.get(name)
    if listed is not None and (not isinstance(listed, list) or wanted not in listed):
        raise BadMetadata(f"{name} has no {wanted}")
