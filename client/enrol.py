"""`gloam enrol`: from an invite to a device.

Laws:

1. Nothing is lost by mistake: a directory that holds a device keeps it unless its replacement was asked for, and nobody
   is logged in there; both are checked before the invite is spent, by the one enrolment that holds the directory.
2. Controllers of the invite are tried in order, but only until one has seen the invite's proof.
3. The room for the new files is taken before the first knock, and the old device is there until the new one is. Then
   the old one gives itself up (giving_up.py), if it can: the enrolment stands however that goes.
"""

import platform
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from certs.errors import StoreError
from client import system_keyring
from client.ask import log_out
from client.clock import Clock, correct
from client.dial import CannotReach, Door, tls_failed
from client.giving_up import Replaced, former_of, replaced
from client.profile import ClockCorrection, Profile
from client.state import ClientState
from client.system_keyring import KeyLostError
from console.errors import CommandError, ExitCode
from spa.packet import KnockKind
from wire.enrol import EnrolFailed, Enrolled, enrol, place
from wire.errors import TlsRefused
from wire.invite import BadInvite, Invite, InvitePurpose, invite_knock_secret, parse_invite
from wire.messages import ControllerAddress

UNREACHED: Final = frozenset({"tls"})
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class NewDevice:
    """What an enrolment made, and what became of the device that was there before."""

    profile: Profile
    former: Replaced | None = None


def read_invite(text: str) -> Invite:
    """The device invite in `text`. Raises CommandError."""
    try:
        invite = parse_invite(text)
    except BadInvite as error:
        raise CommandError(str(error), error.fix, ExitCode.USAGE) from error
    if invite.purpose is not InvitePurpose.DEVICE:
        raise CommandError("this invite is for a gateway", "use it with gloam-gateway join", ExitCode.USAGE)
    return invite


async def enrol_device(
    state: ClientState, invite: Invite, *, replace: bool, name: str | None, keyring: bool = False
) -> NewDevice:
    """Makes this state directory a device of the invite's user. Raises CommandError, KeyringError.

    `keyring`: its keys are sealed with a key that the system's keyring keeps.
    """
    _check_vacant(state, replace=replace)  # before the directory is asked to hold a lock
    state.make()
    with place(state.directory) as give_room_back:
        _check_vacant(state, replace=replace)
        former = None
        if state.enrolled:
            former = former_of(state)
            await log_out(state)  # an agent that waits for a login would log in as the old device
        clock = state.clock()
        sealing = system_keyring.store() if keyring else None  # one that refuses costs no invite
        try:
            enrolled = await _at_some_controller(invite, clock, name or socket.gethostname())
        except BaseException:
            if sealing is not None:
                system_keyring.forget(sealing.entry)
            raise
        clock.correction = ClockCorrection(offset_us=correct(0, enrolled.clock_offset // _MICROSECOND))
        profile = Profile(
            domain=invite.domain, device=enrolled.name.id, user=enrolled.user, controllers=enrolled.controllers
        )
        give_room_back()
        try:
            state.save_enrolment(
                profile, enrolled.identity, enrolled.trust, enrolled.knock_secret, clock, sealing=sealing
            )
        except (StoreError, OSError) as error:
            what = f"device {profile.device} was enrolled, but {state.directory} did not take its files: {error}"
            fix = "mend that, then ask the administrator to revoke the device and for a new invite"
            raise CommandError(what, fix) from error
        if former is not None and former.keyring_entry is not None:
            system_keyring.forget(former.keyring_entry)
    if former is None or former.name == profile.name:
        return NewDevice(profile)
    return NewDevice(profile, await replaced(former, clock))


def _check_vacant(state: ClientState, *, replace: bool) -> None:
    if not state.enrolled:
        return
    profile = state.profile()
    if not replace:
        what = f"this device is already enrolled as {profile.user} of {profile.domain}"
        raise CommandError(what, "add --replace, or enrol another with --state DIR")
    try:
        somebody = state.session() is not None
    except KeyLostError:
        state.forget_session()  # nobody can open it any more; it ends by itself
        somebody = False
    if somebody:
        raise CommandError("somebody is logged in on this device", "run gloam logout first")


async def _at_some_controller(invite: Invite, clock: Clock, device_name: str) -> Enrolled:
    last: CannotReach | None = None
    for controller in invite.controllers:
        try:
            return await enrol(
                invite,
                controller,
                invite_door(invite, controller, clock).dial,
                device_name=device_name[:64],
                platform=f"{platform.system()} {platform.release()} {platform.machine()}"[:128],
            )
        except CannotReach as error:
            last = error
        except TlsRefused as refused:
            last = tls_failed(refused)
        except EnrolFailed as error:
            if error.step not in UNREACHED:
                code = ExitCode.UNREACHABLE if error.step == "answer" else ExitCode.FAILED
                raise CommandError(str(error), error.fix, code) from error
            last = CannotReach("tls", error.reason, str(error), error.fix)
    if last is None:
        raise CommandError("the invite names no controller", "ask the administrator for a new invite")
    if clock.now() > invite.expires:
        what = f"the invite expired at {invite.expires:%Y-%m-%d %H:%M} UTC"
        raise CommandError(
            what, "ask the administrator for a new one, or set the clock of this machine", ExitCode.FAILED
        )
    fix = f"{last.fix}; an invite that was used is not answered either" if last.step == "knock" else last.fix
    raise CommandError(f"{last} (step: {last.step})", fix, ExitCode.UNREACHABLE) from last


def invite_door(invite: Invite, controller: ControllerAddress, clock: Clock) -> Door:
    """The controller's door, for the holder of the invite."""
    return Door(
        invite.name_of(controller),
        controller.tls,
        controller.knock,
        KnockKind.ENROL,
        clock,
        secret=invite_knock_secret(invite.secret),
    )
