"""The certificate authority of the perimeter: its root, one intermediate a purpose, and what they issue.

authority.py   create_authority, Authority
rotation.py    Rotation: an intermediate gives way to the next
rules.py       when (pure)
"""

from controller.authority.authority import Authority, create_authority
from controller.authority.rotation import Rotation

__all__ = ["Authority", "Rotation", "create_authority"]
