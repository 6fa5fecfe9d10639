"""Cloaks: what keeps a TCP port dark.

- ``socket_filter``  the kernel drops strangers' packets before it answers: a scan says *filtered*
- ``on_demand``      the port listens only while somebody holds an open window: a scan says *closed*
- ``bpf``            the programs of the socket filter, as values
- ``choice``         which of them it is to be, and why; ``protocol`` what each of them owes

A new cloak is a new file here with a class that keeps `Cloak`'s promise, and a line in `choose`.
"""

from spa.cloak.choice import Choice, choose
from spa.cloak.protocol import Cloak, CloakName

__all__ = ["Choice", "Cloak", "CloakName", "choose"]
