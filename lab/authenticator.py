"""The person's authenticator app, for perimeters where nobody holds a phone.

A controller accepts each time step once, and one step to either side of its clock. So codes are handed out in order
and never twice, from the step before this one (if this one has just begun: it must still count when it arrives) to the
next.
"""

import asyncio
import time

import pyotp

STEP_SECONDS = 30
JUST_BEGUN = 15  # seconds into a step


class Authenticator:
    """Made from the `otpauth://` URI the controller shows once."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        totp = pyotp.parse_uri(uri)
        if not isinstance(totp, pyotp.TOTP):
            raise TypeError("not a TOTP provisioning URI")
        self._totp = totp
        self._last = 0

    async def code(self) -> str:
        """A code that has not been handed out before."""
        step, into = divmod(time.time(), STEP_SECONDS)
        wanted = max(self._last + 1, int(step) - (into < JUST_BEGUN))
        if wanted > step + 1:
            await asyncio.sleep(STEP_SECONDS - into + 0.05)
        self._last = wanted
        return self._totp.generate_otp(wanted)
