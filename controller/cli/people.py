"""`gloam-controller user`, `group`, `invite`, `invites`, `device`: people and their machines."""

import sys
from typing import Annotated, Any

import typer

from console.errors import CommandError, ExitCode
from console.output import Output, counted
from console.piped import piped_line
from console.typed import typed_twice
from controller.cli.options import Json, State, ask, done, noun, table

user = noun("user", "People.")
group = noun("group", "Groups of people, granted things together.")
device = noun("device", "People's machines.")
invites = noun("invites", "Invites that were not used yet.")

Groups = Annotated[list[str] | None, typer.Option("--group", help="A group; may be repeated.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


def _password(*, stdin: bool) -> str:
    """The new password, from a pipe or asked for twice."""
    if stdin:
        password = piped_line()
    elif sys.stdin.isatty():
        password = typed_twice("Password")
    else:
        raise CommandError("no password", "pipe it in and say --password-stdin", ExitCode.USAGE)
    if not password.isprintable():
        raise CommandError("the password is not one line of UTF-8 text", "give printable characters", ExitCode.USAGE)
    if not password:
        raise CommandError("the password is empty", "give one", ExitCode.USAGE)
    return password


@user.command("add")
def user_add(
    name: str,
    group: Groups = None,
    password_stdin: PasswordStdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="A person who logs in at an identity provider, or with a passkey.")
    ] = False,
    service: Annotated[
        bool, typer.Option("--service", help="A machine without people: it logs in by its device's certificate alone.")
    ] = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Register a person, or a service.

    Example: gloam-controller user add alice --group staff
    """
    if service and password_stdin:
        raise CommandError("a service has no password", "leave --password-stdin out", ExitCode.USAGE)
    if no_password and (service or password_stdin):
        raise CommandError("--no-password stands alone", "leave --service and --password-stdin out", ExitCode.USAGE)
    password = None if service or no_password else _password(stdin=password_stdin)
    document = ask(state, "user.add", name=name, groups=group or [], password=password, service=service)
    done(document, f"user {name} added; next: gloam-controller invite {name}", as_json=json)


@user.command("list")
def user_list(state: State = None, json: Json = False) -> None:
    """List people.

    Example: gloam-controller user list
    """
    columns = {
        "name": "NAME", "groups": "GROUPS", "service": "SERVICE", "totp": "TOTP", "backup_codes": "CODES",
        "devices": "DEVICES", "disabled_at": "DISABLED",
    }  # fmt: skip
    table(ask(state, "user.list"), "Users", columns, as_json=json)


@user.command("disable")
def user_disable(name: str, state: State = None, json: Json = False) -> None:
    """Shut a person out: sessions end at once, tunnels are cut.

    Example: gloam-controller user disable alice
    """
    document = ask(state, "user.disable", name=name)
    done(document, f"user {name} disabled, {counted(document['sessions_ended'], 'session')} ended", as_json=json)


@user.command("unlock")
def user_unlock(name: str, state: State = None, json: Json = False) -> None:
    """Forget what was guessed wrong at somebody's account: they may try again at once.

    Example: gloam-controller user unlock alice
    """
    done(ask(state, "user.unlock", name=name), f"user {name} may try again", as_json=json)


@user.command("enable")
def user_enable(name: str, state: State = None, json: Json = False) -> None:
    """Let a disabled person in again.

    Example: gloam-controller user enable alice
    """
    done(ask(state, "user.enable", name=name), f"user {name} enabled", as_json=json)


@user.command("set")
def user_set(
    name: str,
    group: Groups = None,
    no_groups: Annotated[bool, typer.Option("--no-groups", help="Leave all groups.")] = False,
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
    password_stdin: PasswordStdin = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="Take the password away.")] = False,
    reset_totp: Annotated[
        bool, typer.Option("--reset-totp", help="Forget authenticator and backup codes; a new one at the next login.")
    ] = False,
    service: Annotated[
        bool | None, typer.Option("--service/--person", help="Whether its devices log in by certificate alone.")
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Change a person's groups (those named become all there are), password or authenticator.

    Example: gloam-controller user set alice --group staff --group oncall
    """
    change: dict[str, Any] = {"name": name, "reset_totp": reset_totp}
    if group or no_groups:
        change["groups"] = [] if no_groups else group
    if password and not password_stdin:
        ask(state, "user.links", user=name)  # refused where there is no such user: before a password is asked for
    if password or password_stdin:
        change["password"] = _password(stdin=password_stdin)
    if no_password:
        change["no_password"] = True
    if service is not None:
        change["service"] = service
    if len(change) == 2 and not reset_totp:  # noqa: PLR2004 - nothing but the name and the flag
        fix = "name --group, --password, --no-password, --reset-totp, --service or --person"
        raise CommandError("nothing to change", fix, ExitCode.USAGE)
    done(ask(state, "user.set", **change), f"user {name} changed", as_json=json)


@group.command("add")
def group_add(
    name: str,
    parent: Annotated[str | None, typer.Option("--parent", help="A group whose grants this one shares.")] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Make a group.

    Example: gloam-controller group add oncall --parent staff
    """
    done(ask(state, "group.add", name=name, parent=parent), f"group {name} added", as_json=json)


@group.command("list")
def group_list(state: State = None, json: Json = False) -> None:
    """List groups.

    Example: gloam-controller group list
    """
    columns = {"name": "NAME", "parent": "PARENT", "members": "MEMBERS"}
    table(ask(state, "group.list"), "Groups", columns, as_json=json)


def invite(
    user: Annotated[str | None, typer.Argument(help="Whose device it will be.")] = None,
    provider: Annotated[
        str | None,
        typer.Option("--provider", help="Instead of USER: whoever of this identity provider logs in on it first."),
    ] = None,
    expires: Annotated[str | None, typer.Option("--expires", help="How long it is good for: 30m, 24h, 7d.")] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Show it as a QR code as well.")] = False,
    state: State = None,
    json: Json = False,
) -> None:
    """Print one invite: whoever holds it may enrol one device for USER, once.

    Example: gloam-controller invite alice --expires 2h
    """
    document = ask(state, "invite.make", user=user, provider=provider, expires=expires)

    def human(_: Any) -> None:
        print(document["invite"])  # noqa: T201 - to be copied: no wrapping, no styling
        if qr:
            import segno

            segno.make(document["invite"], error="l").terminal(compact=True)

    Output(json=json).show(document, human)


@invites.command("list")
def invites_list(state: State = None, json: Json = False) -> None:
    """List the invites that may still be used.

    Example: gloam-controller invites list
    """
    columns = {
        "id": "ID", "user": "USER", "provider": "PROVIDER", "gateway": "GATEWAY", "created_at": "MADE",
        "expires_at": "GOOD UNTIL",
    }  # fmt: skip
    table(ask(state, "invite.list"), "Invites", columns, as_json=json)


@invites.command("withdraw")
def invites_withdraw(id: str, state: State = None, json: Json = False) -> None:  # noqa: A002
    """Withdraw an invite: nobody may use it any more.

    Example: gloam-controller invites withdraw 1c9f
    """
    document = ask(state, "invite.withdraw", id=id)
    done(document, f"invite {document['id']} withdrawn", as_json=json)


@device.command("list")
def device_list(state: State = None, json: Json = False) -> None:
    """List devices.

    Example: gloam-controller device list
    """
    columns = {
        "id": "ID", "user": "USER", "name": "NAME", "platform": "PLATFORM", "created_at": "ENROLLED",
        "last_seen_at": "LAST SEEN", "certified_until": "CERTIFIED UNTIL", "state": "STATE",
    }  # fmt: skip
    table(ask(state, "device.list"), "Devices", columns, as_json=json)


@device.command("rename")
def device_rename(id: str, name: str, state: State = None, json: Json = False) -> None:  # noqa: A002 - what the user types
    """Call a device otherwise.

    Example: gloam-controller device rename 3f2a… "Alice's laptop"
    """
    done(ask(state, "device.rename", id=id, name=name), f"device {id} is {name} now", as_json=json)


@device.command("approve")
def device_approve(id: str, state: State = None, json: Json = False) -> None:  # noqa: A002 - what the user types
    """Let a device that waits for approval in.

    Example: gloam-controller device approve 3f2a…
    """
    done(ask(state, "device.approve", id=id), f"device {id} approved", as_json=json)


@device.command("revoke")
def device_revoke(id: str, state: State = None, json: Json = False) -> None:  # noqa: A002 - what the user types
    """Shut a device out for good: its sessions end at once, tunnels are cut.

    Example: gloam-controller device revoke 3f2a…
    """
    document = ask(state, "device.revoke", id=id)
    done(document, f"device {id} revoked, {counted(document['sessions_ended'], 'session')} ended", as_json=json)
