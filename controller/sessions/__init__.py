"""A person on a device, from login to end, and what that lets gateways do.

rules.py     a session and what happens to it -> the session after, and effects (pure)
outlook.py   what a session may reach now, and the leases that say so to gateways (pure)
telling.py   what clients and the audit log are told (pure)
service.py   Sessions
live.py      the sessions of this process, their secrets and listeners
rows.py      the statements about their rows
gateways.py  put and drop, waited for
turns.py     many wishes to judge again, one judging
"""

from controller.sessions.rules import LiveSession, SessionTimes
from controller.sessions.service import Sessions

__all__ = ["LiveSession", "SessionTimes", "Sessions"]
