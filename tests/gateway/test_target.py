import errno
import socket

import pytest

from gateway.target import explain


@pytest.mark.parametrize(
    ("error", "status", "token"),
    [
        (TimeoutError(), 504, "connection_timeout"),
        (OSError(errno.ETIMEDOUT, "timed out"), 504, "connection_timeout"),
        (ConnectionRefusedError(), 502, "connection_refused"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), 502, "dns_error"),
        (OSError(errno.EHOSTUNREACH, "no route"), 502, "destination_ip_unroutable"),
        (OSError(errno.ENETUNREACH, "no network"), 502, "destination_ip_unroutable"),
        (OSError("Multiple exceptions: 10.0.0.1"), 502, "destination_unavailable"),
        (ConnectionResetError(), 502, "destination_unavailable"),
    ],
)
def test_a_failed_dial_is_a_refusal_that_keeps_the_address_to_itself(error: OSError, status: int, token: str) -> None:
    refusal = explain(error, "wiki")
    assert (refusal.status, refusal.error) == (status, token)
    assert "10.0.0.1" not in refusal.details
    assert refusal.fix
