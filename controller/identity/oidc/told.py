"""What a person is told about a login at a provider, and what the audit log is (pure).

Laws:

1. The audit log gets the true reason (a code, and what was found); the person what helps them.
2. Whatever is wrong with a token, a redirect or an identity, the answer is one: `REFUSED`. Which check failed is
   nobody's business but the administrator's.
3. An outage of the provider is told as one, with the other way in. Whose session it endangers is told until when it
   lives, and when the outage is over.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from wire.messages import Code, StepUpNeeded, Text


@dataclass(frozen=True, slots=True)
class No:
    """A refusal: `reason` and `detail` for the audit log, the rest for the person."""

    reason: str
    code: Code
    sentence: Text
    fix: Text
    detail: str = ""


_ASK: Final = "try again; if it stays so, your administrator finds the reason in the audit log"


STRAY: Final = "refused by the device itself; the login goes on"


def refused(reason: str, detail: str = "") -> No:
    """Something about the provider's word does not count (law 2)."""
    return No(reason, "oidc_refused", "this login at the provider does not count here", _ASK, detail)


def unreachable(provider: str, detail: str) -> No:
    """The provider does not answer."""
    sentence = f"the identity provider {provider} does not answer at present"
    fix = "try again in a few minutes; if you have a password here, gloam login works without it"
    return No("provider_unreachable", "provider_unreachable", sentence, fix, detail)


def misbehaved(provider: str, detail: str) -> No:
    """The provider answers what no provider should."""
    sentence = f"the identity provider {provider} answers in a way that is not accepted"
    fix = "tell your administrator; if you have a password here, gloam login works without it"
    return No("provider_misbehaved", "provider_misbehaved", sentence, fix, detail)


def said_no(provider: str, code: str) -> No:
    """The provider, or the person there, refused."""
    sentences = {
        "access_denied": ("the login was declined at the provider", "run gloam login --oidc again, and agree there"),
        "expired_token": ("the code was not used in time", "run gloam login --oidc again"),
        "login_required": ("the provider wants you to log in there", "run gloam login --oidc again"),
        "unsupported_grant_type": (f"the provider {provider} has no device flow", "leave --device-code out"),
        "unauthorized_client": (f"the provider {provider} does not let gloam use this flow", "tell your administrator"),
    }
    sentence, fix = sentences.get(code, (f"the identity provider {provider} refused the login", _ASK))
    return No("provider_refused", "provider_refused", sentence, fix, code)


def no_provider(names: list[str], asked: str | None) -> No:
    """None of this name, none at all, or more than one."""
    if not names:
        sentence = "this perimeter has no identity provider"
        return No("no_provider", "no_provider", sentence, "run gloam login without --oidc")
    listed = ", ".join(names)
    if asked is None:
        sentence, fix = f"there are several identity providers: {listed}", f"name one: gloam login --oidc {names[0]}"
        return No("provider_unnamed", "provider_unnamed", sentence, fix)
    return No("no_provider", "no_provider", f"there is no identity provider {asked}", f"there are: {listed}")


def unconfirmed(provider: str, end: datetime) -> StepUpNeeded:
    """The provider does not answer for a session, which ends then if it stays so."""
    sentence = f"the identity provider {provider} does not confirm your login: your session ends at {end:%H:%M} UTC"
    fix = "wait, and run gloam login --oidc when it is back; if you have a password here, gloam login works without it"
    return StepUpNeeded(code="provider_unreachable", sentence=sentence, fix=fix)


def confirmed_again(provider: str) -> StepUpNeeded:
    """That is over, and nothing is to be done."""
    sentence = f"the identity provider {provider} confirms your login again"
    return StepUpNeeded(code="provider_unreachable", sentence=sentence, fix="")


OVER: Final = No("login_over", "login_over", "this login is over or was never begun", "run gloam login --oidc again")
TOO_MANY: Final = No(
    "too_many_attempts", "too_many_attempts", "too many logins were begun on this device", "wait a minute and try again"
)
