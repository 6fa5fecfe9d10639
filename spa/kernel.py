"""The three things we ask of the Linux kernel that Python has no words for.

A classic BPF program on a socket drops packets before anything is done about them: no answer, no wake-up. Any process
may put one on its UDP sockets; on TCP sockets recent kernels want CAP_NET_ADMIN (design: measured).
"""

import array
import contextlib
import socket
import struct
import sys
from typing import Final

_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER, include/uapi/asm-generic/socket.h
_DETACH_FILTER: Final = 27
_INSTRUCTION_BYTES: Final = 8
_RECEIVE_BUFFER_FORCE: Final = 33  # SO_RCVBUFFORCE: past net.core.rmem_max, for CAP_NET_ADMIN


def attach_filter(sock: socket.socket, code: bytes) -> None:
    """Replaces the filter of `sock` by `code` (`bpf.pack`) at once; `OSError` if the kernel will not: the old stays."""
    if sys.platform != "linux":
        msg = "socket filters are a feature of Linux"
        raise OSError(msg)
    instructions = array.array("B", code)  # held until the kernel has read it
    address, _ = instructions.buffer_info()
    program = struct.pack("HP", len(code) // _INSTRUCTION_BYTES, address)  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)


def detach_filter(sock: socket.socket) -> None:
    """Takes the filter off, if there is one."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


def enlarge_receive_buffer(sock: socket.socket, size: int) -> None:
    """As large as we may: `size` bytes, or what the system allows everybody."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _RECEIVE_BUFFER_FORCE, size)
    except OSError:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
