"""What a machine knows about itself once it is enrolled, and what it remembers of its last session.

Pure: values and their JSON. `client/state.py` keeps them in files.
"""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from certs.names import Name, NameKind
from wire.messages import Code, ControllerAddress, Message, Text


class Profile(Message):
    """Written last at enrolment: where it exists, this machine is enrolled."""

    domain: Text
    device: Text  # the device's id, a UUID in lowercase
    user: Text  # the owner, as `login` proposes it
    controllers: Annotated[tuple[ControllerAddress, ...], Field(min_length=1, max_length=16)]

    @property
    def name(self) -> Name:
        """The name the device certificate carries."""
        return Name(self.domain, NameKind.DEVICE, self.device)

    def controller_name(self, controller: ControllerAddress) -> Name:
        """The name the controller at this address must prove."""
        return Name(self.domain, NameKind.CONTROLLER, controller.name)


class Ended(Message):
    """Why the last session ended, for `status` to tell after the agent has gone."""

    code: Code
    sentence: Text
    fix: Text = ""
    at: datetime

    @property
    def revoked(self) -> bool:
        """Whether the whole device is shut out, for good."""
        return self.code == "device_revoked"

    @property
    def helps(self) -> str:
        """What to do about it."""
        return self.fix or "run gloam login"


class ClockCorrection(Message):
    """What this machine's clock (microseconds since 1970) lacks of the controller's, and of the time of knocks.

    The same for all its processes, and a function of that clock alone: `client.clock` has the rules.
    """

    offset_us: int = 0
    lead_us: int = 0
    """How far knocks ran ahead of the corrected clock when it was corrected, at `since_us`."""
    since_us: int = 0
