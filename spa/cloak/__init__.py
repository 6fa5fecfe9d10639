"""Cloaks: what keeps a TCP port dark.

- ``nftables``       the kernel's packet filter drops strangers' packets, even if we are dead: *filtered*.
  ``ruleset`` has its rules as text, ``libnftables`` runs them, ``table`` sees over ``netlink`` who touched them
- ``socket_filter``  the kernel drops strangers' packets before it answers: a scan says *filtered*
- ``on_demand``      the port listens only while somebody holds an open window: a scan says *closed*
- ``bpf``            the programs of the socket filter, as values
- ``choice``         which of them it is to be, and why; ``protocol`` what each of them owes

A new cloak is a new file here with a class that keeps `Cloak`'s promise, and its place in `choice`.
"""

from spa.cloak.choice import Choice, choose, try_out
from spa.cloak.protocol import Cloak, CloakName

__all__ = ["Choice", "Cloak", "CloakName", "choose", "try_out"]
