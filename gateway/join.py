"""How a gateway comes to be: an invite becomes a key, a certificate, a knock secret and a configuration.

1. A state directory holds one gateway. `join` never overwrites one: a new gateway has a new directory.
2. Everything is written before the configuration, and the configuration makes it a gateway: a join that stops half way
   leaves nothing that `run` would take for one.
3. The directory is ours alone, with room for all of it, from before the invite is used.
"""

import socket
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from certs.errors import StoreError
from certs.names import Name, NameKind
from certs.store import IdentityStore, make_state_directory, write_private, write_public
from console.address import HostPort
from console.errors import CommandError, ExitCode
from console.settings import dump_settings
from gateway.config import IDENTITY, KNOCK_SECRET, TRUST, ControllerTable, GatewaySettings, settings_path
from gateway.dial import wall_us
from spa.packet import KnockKind, derive_key
from spa.sender import knock_and_connect
from wire.enrol import EnrolFailed, Enrolled, enrol, place
from wire.invite import BadInvite, Invite, InvitePurpose, invite_knock_secret, parse_invite
from wire.messages import ControllerAddress


async def join(text: str, state: Path) -> GatewaySettings:
    """Uses the invite in `text`; answers the settings written to `state`. Raises CommandError."""
    try:
        invite = parse_invite(text)
    except BadInvite as error:
        raise CommandError(str(error), error.fix, ExitCode.USAGE) from error
    if invite.purpose is not InvitePurpose.GATEWAY:
        raise CommandError("this invite is for a person's device", "use it with: gloam enrol INVITE", ExitCode.USAGE)
    if invite.expires < datetime.now(UTC):
        raise CommandError(
            "this invite has expired", f"ask for a new one: gloam-controller gateway invite {invite.subject}"
        )
    _check_vacant(state)  # before the directory is asked to hold a lock
    make_state_directory(state)
    with place(state) as give_room_back:
        _check_vacant(state)
        enrolled = await _enrol(invite)
        give_room_back()
        try:
            return _write(enrolled, state)
        except (StoreError, OSError) as error:
            what = f"this is gateway {enrolled.name.id}, but {state} did not take its files: {error}"
            raise CommandError(what, "mend that, then ask the administrator for a new invite") from error


def _check_vacant(state: Path) -> None:
    if settings_path(state).exists():
        raise CommandError(f"{state} is a gateway already", "name another directory with --state, or remove this one")


async def _enrol(invite: Invite) -> Enrolled:
    """Tries the controllers of the invite in turn; the first that can be reached decides."""
    unreachable = ""
    for controller in invite.controllers:
        try:
            return await enrol(invite, controller, partial(_dial, invite, controller), platform="gateway")
        except OSError as error:  # Unreachable among them
            unreachable = f"controller {controller.name} cannot be reached: {error}"
        except EnrolFailed as error:
            code = ExitCode.UNREACHABLE if error.step == "tls" and error.reason == "closed" else ExitCode.FAILED
            raise CommandError(str(error), error.fix, code) from error
    raise CommandError(
        unreachable,
        "check that the controller runs, UDP reaches it, and this clock; "
        "an invite that was used is not answered either",
        ExitCode.UNREACHABLE,
    )


async def _dial(invite: Invite, controller: ControllerAddress) -> socket.socket:
    return await knock_and_connect(
        knock_to=(controller.knock.host, controller.knock.port),
        connect_to=(controller.tls.host, controller.tls.port),
        key=derive_key(invite_knock_secret(invite.secret), Name(invite.domain, NameKind.CONTROLLER, controller.name)),
        kind=KnockKind.ENROL,
        clock=wall_us,
    )


def _write(enrolled: Enrolled, state: Path) -> GatewaySettings:
    if enrolled.listen is None or enrolled.knock is None:
        raise CommandError(
            "the controller did not say where this gateway listens", "ask the administrator for a new invite"
        )
    settings = GatewaySettings(
        name=enrolled.name.id,
        domain=enrolled.name.domain,
        listen=HostPort(enrolled.listen.host, enrolled.listen.port),
        knock=HostPort(enrolled.knock.host, enrolled.knock.port),
        controllers=tuple(map(ControllerTable.of, enrolled.controllers)),
        advertised_ports=() if enrolled.advertise is None else (enrolled.advertise.port,),
    )
    IdentityStore(state).save(IDENTITY, enrolled.identity)
    write_public(state / TRUST, enrolled.trust.to_pem())
    write_private(state / KNOCK_SECRET, enrolled.knock_secret.reveal())
    write_public(settings_path(state), dump_settings(settings).encode())
    return settings
