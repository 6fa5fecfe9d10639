"""Who a person is: the login, a conversation in which they prove it, one file a method.

method.py          what every method owes (the protocol)
by_password.py     a password
by_totp.py         the code of an authenticator
by_backup_code.py  a backup code
by_passkey.py      a passkey; passkeys.py keeps them
by_oidc.py         the word of an OpenID provider; oidc/ has heard it
proving.py         proofs in; who it is, what is missing, or why not
login.py           the service for logins
account.py         the service for changes of how somebody proves who they are

rules.py           which proofs suffice, and what is answered (pure)
attempts.py        how fast somebody may guess (pure); throttle.py keeps it in the database
totp.py            time-based codes (pure)
backup_codes.py    backup codes (pure); backup.py keeps them in the database
strength.py        whether a password is strong enough (pure)
passwords.py       argon2id in a few threads of its own
authenticators.py  a new authenticator in the place of the old one
"""

from controller.identity.account import Accounts
from controller.identity.login import Login
from controller.identity.passwords import Busy, Passwords
from controller.identity.proving import Proving

__all__ = ["Accounts", "Busy", "Login", "Passwords", "Proving"]
