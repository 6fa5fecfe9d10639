"""`gloam-controller provider`, and `user link`, `unlink`, `links`: identity providers and who their people are here."""

import sys
from typing import Annotated, Any

import typer

from console.errors import CommandError, ExitCode
from console.output import Output, counted, shown
from console.piped import piped_line
from controller.cli.options import Json, State, ask, done, noun, table

provider = noun("provider", "Identity providers (OpenID Connect).")

Words = list[str] | None


@provider.command("add")
def provider_add(
    name: str,
    issuer: Annotated[str, typer.Option("--issuer", help="The issuer, exactly as the provider writes it.")],
    client_id: Annotated[str, typer.Option("--client-id", help="What the provider calls this perimeter.")],
    client_secret: Annotated[bool, typer.Option("--client-secret", help="Ask for the client's secret.")] = False,
    client_secret_stdin: Annotated[
        bool, typer.Option("--client-secret-stdin", help="Read the client's secret from standard input.")
    ] = False,
    scope: Annotated[Words, typer.Option("--scope", help="A scope to ask for (else openid, offline_access).")] = None,
    groups_claim: Annotated[str | None, typer.Option("--groups-claim", help="The claim that lists groups.")] = None,
    group: Annotated[
        Words, typer.Option("--group", metavar="THEIRS=OURS", help="The provider's group THEIRS is our group OURS.")
    ] = None,
    mfa_amr: Annotated[
        Words, typer.Option("--mfa-amr", help="An `amr` value that means two factors; a+b: both values.")
    ] = None,
    mfa_acr: Annotated[Words, typer.Option("--mfa-acr", help="An `acr` value that means two factors.")] = None,
    algorithm: Annotated[
        Words, typer.Option("--algorithm", help="A signature algorithm to accept (else RS256, PS256, ES256, EdDSA).")
    ] = None,
    create_users: Annotated[
        bool, typer.Option("--create-users", help="Make users at their first login (see invite --provider).")
    ] = False,
    name_claim: Annotated[
        str | None, typer.Option("--name-claim", help="The claim such a user is named by (else preferred_username).")
    ] = None,
    max_age: Annotated[
        str | None, typer.Option("--max-age", help="How old a login at the provider may be (else 12h).")
    ] = None,
    recheck: Annotated[
        str | None, typer.Option("--recheck", help="How often sessions are confirmed by it (else 10m).")
    ] = None,
    grace: Annotated[
        str | None, typer.Option("--grace", help="How long sessions live on while it does not answer (else 1h).")
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Register an identity provider; it is asked to describe itself at once.

    Example: gloam-controller provider add corp --issuer https://login.example.com --client-id gloam --client-secret
    --groups-claim groups --group Engineering=staff --mfa-amr mfa
    """
    given = {
        "scopes": scope or None, "groups_claim": groups_claim, "groups": _pairs(group or []), "mfa_amr": mfa_amr or [],
        "mfa_acr": mfa_acr or [], "algorithms": algorithm or None, "creates_users": create_users,
        "name_claim": name_claim, "max_age": max_age, "recheck": recheck, "grace": grace,
    }  # fmt: skip
    settings = {key: value for key, value in given.items() if value is not None}
    secret = _secret(stdin=client_secret_stdin) if client_secret or client_secret_stdin else None
    document = ask(
        state, "provider.add", name=name, issuer=issuer, client_id=client_id, client_secret=secret, settings=settings
    )
    done(document, f"provider {name} added; next: gloam-controller user link USER --provider {name} --subject SUB",
         as_json=json)  # fmt: skip


@provider.command("list")
def provider_list(state: State = None, json: Json = False) -> None:
    """List identity providers.

    Example: gloam-controller provider list
    """
    columns = {"name": "NAME", "issuer": "ISSUER", "client_id": "CLIENT", "sessions": "SESSIONS"}
    table(ask(state, "provider.list"), "Providers", columns, as_json=json)


@provider.command("show")
def provider_show(name: str, state: State = None, json: Json = False) -> None:
    """Show everything about a provider but its secret.

    Example: gloam-controller provider show corp
    """
    document = ask(state, "provider.show", name=name)

    def human(console: Any) -> None:
        known = {key: value for key, value in document.items() if key != "settings"}
        known["client_secret"] = "kept" if document["client_secret"] else None
        for key, value in {**known, **document["settings"]}.items():
            console.print(f"{key.replace('_', ' ')}: {_words(value)}", markup=False, highlight=False)

    Output(json=json).show(document, human)


@provider.command("remove")
def provider_remove(name: str, state: State = None, json: Json = False) -> None:
    """Remove a provider: the sessions it began end, the groups it gave are taken.

    Example: gloam-controller provider remove corp
    """
    document = ask(state, "provider.remove", name=name)
    done(document, f"provider {name} removed, {counted(document['sessions_ended'], 'session')} ended", as_json=json)


Provider = Annotated[str, typer.Option("--provider", help="The identity provider.")]


def user_link(
    user: str,
    provider: Provider,
    subject: Annotated[str, typer.Option("--subject", help="Who they are there: the claim `sub`, no e-mail address.")],
    state: State = None,
    json: Json = False,
) -> None:
    """Say who somebody is at an identity provider.

    Example: gloam-controller user link alice --provider corp --subject 7f3c9a
    """
    document = ask(state, "user.link", user=user, provider=provider, subject=subject)
    done(document, f"{subject} of {provider} is user {user} now", as_json=json)


def user_unlink(
    user: str,
    provider: Annotated[str | None, typer.Option("--provider", help="The identity provider.")] = None,
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="URL", help="Or its issuer, where the provider was removed.")
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Take a person's identity at a provider away: sessions begun with it end.

    Example: gloam-controller user unlink alice --provider corp
    """
    if (provider is None) == (issuer is None):
        raise CommandError("whose identity is not said", "name --provider P or --issuer URL", ExitCode.USAGE)
    document = ask(state, "user.unlink", user=user, provider=provider, issuer=issuer)
    done(
        document,
        f"{user} unlinked from {provider or issuer}, {counted(document['sessions_ended'], 'session')} ended",
        as_json=json,
    )


def user_links(
    user: Annotated[str | None, typer.Argument(help="Of this person alone.")] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """List who people are at identity providers.

    Example: gloam-controller user links
    """
    columns = {"user": "USER", "provider": "PROVIDER", "subject": "SUBJECT", "issuer": "ISSUER"}
    table(ask(state, "user.links", user=user), "Identities", columns, as_json=json)


def _words(value: object) -> str:
    """A setting as people read it."""
    match value:
        case dict():
            return ", ".join(f"{theirs} -> {ours}" for theirs, ours in value.items()) or "none"
        case _:
            return shown(value) if value not in (None, [], ()) else "none"


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        theirs, equals, ours = text.rpartition("=")
        if not equals or not theirs or not ours:
            raise CommandError(f"{text!a} maps no group", "write THEIRS=OURS, as in Engineering=staff", ExitCode.USAGE)
        pairs[theirs] = ours
    return pairs


def _secret(*, stdin: bool) -> str:
    """The client's secret, from a pipe or asked for."""
    if stdin:
        secret = piped_line()
    elif sys.stdin.isatty():
        secret = str(typer.prompt("Client secret", hide_input=True))
    else:
        raise CommandError("no client secret", "pipe it in and say --client-secret-stdin", ExitCode.USAGE)
    if not secret or not secret.isprintable():
        raise CommandError("the client's secret is not one line of text", "copy it again", ExitCode.USAGE)
    return secret
