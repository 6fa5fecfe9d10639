"""Separate hosts: each a network namespace with addresses of its own, so that a scan crosses a wire.

```
controller .1 ──┐
user .201 ──────┤ outer 10.77.1.0/24 ── gateway .11 ── inner 10.77.2.0/24 ── resource .101 …
stranger .250 ──┘
```

The outer network is a switch; the inner one is a cable, and the gateway forwards nothing. The namespaces have no names:
each lives as long as one process that does nothing, which dies with ours. So nothing is left behind, whatever happens.
Needs root (Linux), and the commands ip, nsenter, unshare and sysctl.
"""

import contextlib
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from lab.addresses import CONTROLLER, GATEWAYS, RESOURCES, STRANGER, USER
from lab.processes import LabError, die_with_parent

SWITCH: Final = "switch"
_OUTER: Final = {"controller": CONTROLLER, "gateway": GATEWAYS, "user": USER, "stranger": STRANGER}
_RESOURCES: Final = range(RESOURCES, RESOURCES + 4)
_READY: Final = b"ready\n"
_HOLD: Final = ("unshare", "--net", "--", "sh", "-c", "echo ready; exec sleep infinity")
_ANSWERS_AT_ONCE: Final = "net.ipv4.icmp_ratemask=0"
"""Closed UDP ports answer a scan of all of them as fast as they are asked: else it takes 65,535 s."""


class Hosts:
    """The hosts, between `with` and its end. Also the addresses of one perimeter (lab/addresses.py)."""

    def __init__(self) -> None:
        self._holders: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            for name in (SWITCH, *_OUTER, "resource"):
                self._hold(name)
            self._cable()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def on(self, name: str, *argv: str) -> list[str]:
        """The command line that runs `argv` on the host of this name."""
        return ["nsenter", "--target", str(self._holders[name].pid), "--net", "--", *argv]

    def run(self, name: str, *argv: str) -> str:
        """What a command on a host prints. Raises LabError if it fails."""
        done = subprocess.run(self.on(name, *argv), capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - commands of the lab
        if done.returncode != 0:
            raise LabError(f"`{' '.join(argv)}` on {name} exited {done.returncode}: {done.stderr}")
        return done.stdout

    # As the addresses of a perimeter

    def address(self, host: int) -> str:
        """The address of this number: resources are on the inner network, everybody else on the outer one."""
        return f"10.77.{2 if host in _RESOURCES else 1}.{host}"

    def at(self, host: int, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` on the host that has this address."""
        names = {number: name for name, number in _OUTER.items()}
        return self.on(names.get(host, "resource"), *argv)

    @property
    def stranger(self) -> str:
        """An address that never knocks."""
        return self.address(STRANGER)

    def release(self) -> None:
        """The hosts end with their `with`."""

    # How they are made

    def _hold(self, name: str) -> None:
        holder = subprocess.Popen(_HOLD, stdout=subprocess.PIPE, preexec_fn=die_with_parent)  # noqa: PLW1509, S603 - no threads wait in there
        self._holders[name] = holder
        if holder.stdout is None or holder.stdout.readline() != _READY:
            raise LabError(f"the host {name} cannot be made: network namespaces need root")

    def _cable(self) -> None:
        self.run(SWITCH, "ip", "link", "add", "lan", "type", "bridge")
        self.run(SWITCH, "ip", "link", "set", "lan", "up")
        for name, number in _OUTER.items():
            self._plug(name, "outer", [number], SWITCH, name)
            self.run(SWITCH, "ip", "link", "set", name, "master", "lan", "up")
        self._plug("gateway", "inner", [1], "resource", "inner")
        for number in _RESOURCES:
            self.run("resource", "ip", "address", "add", f"10.77.2.{number}/24", "dev", "inner")
        self.run("resource", "ip", "link", "set", "inner", "up")
        for name in (*_OUTER, "resource"):
            self.run(name, "ip", "link", "set", "lo", "up")
            self.run(name, "sysctl", "-q", "-w", _ANSWERS_AT_ONCE)

    def _plug(self, name: str, interface: str, numbers: Sequence[int], other: str, other_end: str) -> None:
        there = str(self._holders[other].pid)
        self.run(name, "ip", "link", "add", interface, "type", "veth", "peer", "name", other_end, "netns", there)
        for number in numbers:
            network = 1 if interface == "outer" else 2
            self.run(name, "ip", "address", "add", f"10.77.{network}.{number}/24", "dev", interface)
        self.run(name, "ip", "link", "set", interface, "up")

    def _end(self) -> None:
        for holder in self._holders.values():
            with contextlib.suppress(ProcessLookupError):
                holder.kill()
            holder.wait()
            if holder.stdout is not None:
                holder.stdout.close()
        self._holders.clear()
