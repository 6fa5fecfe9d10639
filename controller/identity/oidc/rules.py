"""What a provider's word counts for here: its registration, and the rules that read its claims (pure).

Laws:

1. Who somebody is, is issuer and subject. No address, no name and no group of a token ever finds a user.
2. The provider's word for a second factor counts where the administrator has named what it says then (`amr`, `acr`),
   and only with `auth_time`: that is how old the second factor is.
3. Groups are those the administrator has mapped; a claim that is missing means none, one that is malformed is refused.
4. The name of a user made at their first login ends in `@PROVIDER`: no provider chooses a name that somebody else
   granted something to, nor one of another provider's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from certs.secret import Secret
from controller.identity.oidc.keys import KINDS
from controller.identity.oidc.tokens import IdToken
from wire.messages import USER

MOST_GROUPS: Final = 2_000
"""In one claim; Active Directory's tokens end at 200, and Keycloak's where the token is too long."""
ALGORITHMS: Final = tuple(KINDS)
_UNFIT: Final = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Registration:
    """A provider as administrators registered it."""

    name: str
    issuer: str
    client_id: str
    secret: Secret | None = field(repr=False, default=None)
    scopes: tuple[str, ...] = ("openid", "offline_access")
    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    groups_claim: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)  # the provider's name of a group → ours
    mfa_amr: tuple[str, ...] = ()  # each one value, or several joined with + that must all be there
    mfa_acr: tuple[str, ...] = ()
    creates_users: bool = False
    name_claim: str = "preferred_username"
    max_age: timedelta = timedelta(hours=12)
    recheck: timedelta = timedelta(minutes=10)
    grace: timedelta = timedelta(hours=1)


class BadClaim(ValueError):  # noqa: N818 - reads as what it is
    """A claim that cannot be read as what the registration says it is."""


def second_factor_at(registration: Registration, token: IdToken) -> datetime | None:
    """When the person proved a second factor at the provider, if its word for that counts (law 2)."""
    amr, acr = token.claims.get("amr"), token.claims.get("acr")
    methods = {each for each in amr if isinstance(each, str)} if isinstance(amr, list) else set[str]()
    enough = any(methods >= set(each.split("+")) for each in registration.mfa_amr)
    return token.auth_time if enough or (isinstance(acr, str) and acr in registration.mfa_acr) else None


def groups_of(registration: Registration, claims: Mapping[str, Any]) -> frozenset[str]:
    """Our groups that the claims say (law 3). Raises BadClaim."""
    if registration.groups_claim is None:
        return frozenset()
    said = claims.get(registration.groups_claim, [])
    said = [said] if isinstance(said, str) else said
    if not isinstance(said, list) or len(said) > MOST_GROUPS or not all(isinstance(each, str) for each in said):
        raise BadClaim(f"the claim {registration.groups_claim} is no list of groups")
    return frozenset(registration.groups[each] for each in said if each in registration.groups)


def user_name(registration: Registration, claims: Mapping[str, Any]) -> str:
    """What a user made for these claims is called (law 4). Raises BadClaim where there is nothing to call them."""
    said = claims.get(registration.name_claim)
    if not isinstance(said, str):
        raise BadClaim(f"the claim {registration.name_claim} is no name")
    local = _UNFIT.sub("-", said.lower()).strip("-._")
    name = f"{local}@{registration.name}"
    if not local or re.fullmatch(USER.strip("^$"), name) is None:
        raise BadClaim(f"the claim {registration.name_claim} makes no user name")
    return name
