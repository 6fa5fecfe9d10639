"""The device that another takes the place of: it gives itself up at its controller, over its own mutual TLS.

Laws:

1. The new device is on the disk before: whatever goes wrong here costs nothing, but that the old one stays.
2. What it takes is read before the enrolment, which moves the old files away, and is kept in memory alone.
3. It is tried once. What did not work is said, with what an administrator does about it.
"""

from dataclasses import dataclass, field
from uuid import UUID

from certs.errors import CertsError
from certs.names import Name
from certs.secret import Secret
from client.clock import Clock
from client.dial import CannotReach, Door
from client.profile import Profile
from client.state import ClientState
from console.errors import CommandError
from spa.packet import KnockKind
from wire.errors import WireError
from wire.renewal import Holder, give_up


@dataclass(frozen=True, slots=True)
class Former:
    """A device that is being replaced. `holder` and `secret` are what it proves itself with, if they can be read."""

    profile: Profile
    revoked: bool = False  # it was told so: there is nothing to give up
    problem: str = ""
    holder: Holder | None = None
    secret: Secret | None = field(default=None, repr=False)
    keyring_entry: UUID | None = None

    @property
    def name(self) -> Name:
        """The name its certificate carries."""
        return self.profile.name


@dataclass(frozen=True, slots=True)
class Replaced:
    """What became of the former device: revoked at its controller, unless there is a problem."""

    device: str
    problem: str = ""

    @property
    def fix(self) -> str:
        """What remains to be done, where it stayed."""
        if not self.problem:
            return ""
        return f"unless it is revoked already, ask an administrator for gloam-controller device revoke {self.device}"


def former_of(state: ClientState) -> Former:
    """The device in this directory; one whose files are damaged may be replaced, too. Raises CommandError."""
    profile, ended = state.profile(), state.ended()
    revoked = ended is not None and ended.revoked
    entry = None
    try:
        entry = state.keyring_entry
        holder = Holder(state.device(), state.trust())
        return Former(profile, revoked, "", holder, state.knock_secret(), entry)
    except (CertsError, CommandError, OSError) as error:
        return Former(profile, revoked, f"its keys cannot be read: {error}", keyring_entry=entry)


async def replaced(former: Former, clock: Clock) -> Replaced:
    """Has the former device give itself up at the first controller that answers; `clock` is the new device's."""
    device, problem = former.profile.device, former.problem
    if former.revoked:
        return Replaced(device)
    if former.holder is None or former.secret is None:
        return Replaced(device, problem)
    for controller in former.profile.controllers:
        name = former.profile.controller_name(controller)
        door = Door(name, controller.tls, controller.knock, KnockKind.CONTROL, clock, secret=former.secret)
        try:
            await give_up(former.holder, controller, door.dial)
        except CannotReach as error:
            problem = str(error)
        except WireError as error:
            return Replaced(device, str(error))
        else:
            return Replaced(device)
    return Replaced(device, problem)
