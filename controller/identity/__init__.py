"""Who a person is: passwords, authenticators, and the login that asks for both.

passwords.py   argon2id in a few threads of its own
totp.py        time-based codes (pure)
attempts.py    how fast somebody may guess (pure)
rules.py       what a login answers (pure)
login.py       the service
"""

from controller.identity.login import Login
from controller.identity.passwords import Busy, Passwords

__all__ = ["Busy", "Login", "Passwords"]
