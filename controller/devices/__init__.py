"""Machines of people, how they come to be, and what they knock with.

invites.py   makes invites (their text is wire.invite)
enrol.py     makes an invitee a device or a gateway
service.py   list, approve, revoke
keys.py      fills the controller's admission with everybody's knock keys
sealed.py    the contexts secrets of devices, gateways and invites are sealed under
"""

from controller.devices.enrol import Enrolment
from controller.devices.invites import Invites
from controller.devices.keys import KnockKeys
from controller.devices.service import Devices

__all__ = ["Devices", "Enrolment", "Invites", "KnockKeys"]
