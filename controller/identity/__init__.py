"""Who a person is: the login, a conversation in which they prove it, one file a method.

method.py         what every method owes (the protocol)
by_password.py    a password
by_totp.py        the code of an authenticator
rules.py          which proofs suffice, and what is answered (pure)
login.py          the service: proofs in; a session, what is missing, or a refusal out

passwords.py      argon2id in a few threads of its own
totp.py           time-based codes (pure)
attempts.py       how fast somebody may guess (pure)
"""

from controller.identity.login import Login
from controller.identity.passwords import Busy, Passwords

__all__ = ["Busy", "Login", "Passwords"]
