"""Asking the kernel's packet filter over netlink: one question, its answers as bytes (linux/netfilter/nf_tables.h)."""

import os
import socket
import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from typing import Final

NETLINK_NETFILTER: Final = 12
NEWS_OF_TABLES: Final = 1 << (7 - 1)
"""NFNLGRP_NFTABLES: one message for every change of any table."""


class Ask(IntEnum):
    """Questions, of `enum nf_tables_msg_types`; a rule is asked for with all its siblings."""

    TABLE = 1
    CHAIN = 4
    RULES = 7
    GENERATION = 16


NAME_OF_TABLE: Final = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
NAME_OF_CHAIN: Final = 3  # NFTA_CHAIN_NAME

_SUBSYSTEM: Final = 10  # NFNL_SUBSYS_NFTABLES
_FAMILY: Final = 1  # NFPROTO_INET
_REQUEST, _DUMP = 1, 0x300
_ERROR, _DONE = 2, 3
_INTERRUPTED: Final = 0x10  # NLM_F_DUMP_INTR: it changed while it was read
_HEADER: Final = struct.Struct("=IHHII")
_GENERIC: Final = struct.Struct(">BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERRNO: Final = struct.Struct("=i")
_READ: Final = 1 << 17
_DEADLINE: Final = 1.0  # the kernel answers within the call that asks


def packet_filter_socket() -> socket.socket:
    """A netlink socket to the packet filter; `OSError` if this process may not have one."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        msg = "netlink is a feature of Linux"
        raise OSError(msg)
    sock = socket.socket(family, socket.SOCK_RAW, NETLINK_NETFILTER)
    sock.settimeout(_DEADLINE)
    return sock


def ask(sock: socket.socket, what: Ask, names: Mapping[int, str]) -> Iterator[bytes]:
    """The bodies of the answers, without what differs from time to time; `OSError` with the kernel's reason."""
    sock.send(_question(what, names))
    while True:
        data = sock.recv(_READ)
        while data:
            length, kind, flags, _, _ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -_ERRNO.unpack_from(body)[0]
                raise OSError(number, os.strerror(number))
            if flags & _INTERRUPTED:
                msg = "it changed while it was read"
                raise OSError(msg)
            yield body[_GENERIC.size :]
        if what is not Ask.RULES:
            return


def _question(what: Ask, names: Mapping[int, str]) -> bytes:
    attributes = b"".join(_attribute(number, name.encode() + b"\0") for number, name in names.items())
    body = _GENERIC.pack(_FAMILY, 0, 0) + attributes
    flags = _REQUEST | (_DUMP if what is Ask.RULES else 0)
    return _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM << 8 | what, flags, 0, 0) + body


def _attribute(number: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), number) + value + bytes(-len(value) % 4)
