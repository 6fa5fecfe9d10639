"""Every command an administrator can give a running controller, by name."""

from typing import TYPE_CHECKING

from controller.admin.access import access
from controller.admin.authority import authority
from controller.admin.federation import federation
from controller.admin.live import live
from controller.admin.metrics import metrics
from controller.admin.passkeys import passkeys
from controller.admin.people import people
from controller.admin.places import places
from controller.admin.server import Command

if TYPE_CHECKING:
    from controller.assembly import Controller


def commands(controller: "Controller") -> dict[str, Command]:
    """Name → command."""
    parts = (people, passkeys, federation, places, access, live, metrics, authority)
    return {name: command for part in parts for name, command in part(controller).items()}
