"""Ports on loopback: both addresses of localhost, and connections of our own user alone."""

import os
import socket
import subprocess
import sys

import pytest

from client.loopback import listen_on_localhost, ours
from console.errors import CommandError

_VISITOR = """
import encodings.idna, os, socket, sys  # that user may not be able to read Python's library
if int(sys.argv[3]) != os.geteuid():
    os.setuid(int(sys.argv[3]))
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as there:
    there.recv(1)
"""


def accepted_from(user: int, listener: socket.socket) -> bool:
    """What `ours` says of a connection another process makes as that user."""
    host, port = listener.getsockname()[:2]
    with subprocess.Popen([sys.executable, "-c", _VISITOR, host, str(port), str(user)]) as visitor:
        listener.settimeout(30)
        connection, _ = listener.accept()
        with connection:
            said = ours(connection)
        assert visitor.wait(30) == 0
    return said


def test_every_address_of_localhost_is_ours() -> None:
    listeners, port = listen_on_localhost()
    try:
        assert [each.getsockname()[:2] for each in listeners] == [("127.0.0.1", port), ("::1", port)]
        for listener in listeners:
            assert accepted_from(os.geteuid(), listener)
        with pytest.raises(CommandError, match="is taken"):
            listen_on_localhost(port)
    finally:
        for listener in listeners:
            listener.close()


def test_a_port_that_somebody_else_has_on_one_address_is_not_taken_on_the_other() -> None:
    with socket.socket(socket.AF_INET6) as squatter:
        squatter.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        squatter.bind(("::1", 0))
        port = squatter.getsockname()[1]
        with pytest.raises(CommandError, match="is taken"):
            listen_on_localhost(port)
        with socket.create_server(("127.0.0.1", port)):
            pass  # what was taken on the first address was given back


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_another_users_connection_is_none_of_ours() -> None:
    listeners, _port = listen_on_localhost()
    try:
        assert [accepted_from(65_534, each) for each in listeners] == [False, False]
    finally:
        for listener in listeners:
            listener.close()
