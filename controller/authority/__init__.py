"""The certificate authority of the perimeter: its root, one intermediate a purpose, and what they issue.

authority.py   create_authority, Authority
"""

from controller.authority.authority import Authority, create_authority

__all__ = ["Authority", "create_authority"]
