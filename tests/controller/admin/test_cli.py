"""What the administrators' commands refuse before they ask a controller."""

import io
from pathlib import Path

import pytest

from console.run import execute
from controller.cli import app


def told(*arguments: str) -> tuple[int, str]:
    stderr = io.StringIO()
    return execute(app, "gloam-controller", arguments, environ={}, stderr=stderr), stderr.getvalue()


@pytest.mark.parametrize("command", ["check", "apply"])
def test_a_policy_file_that_cannot_be_read_is_named(tmp_path: Path, command: str) -> None:
    gone, noise = tmp_path / "gone.cedar", tmp_path / "noise.cedar"
    noise.write_bytes(b"\xff\xfe")
    start = "gloam-controller: "
    assert told("policy", command, str(gone)) == (
        1,
        f"{start}{gone} cannot be read: No such file or directory; name a policy file\n",
    )
    assert told("policy", command, str(noise)) == (1, f"{start}{noise} is not UTF-8 text; name a policy file\n")


@pytest.mark.parametrize("named", [(), ("3f2a", "--user", "alice"), ("--user", "alice", "--device", "3f2a")])
def test_sessions_to_end_are_named_in_one_way(named: tuple[str, ...]) -> None:
    code, line = told("session", "revoke", *named)
    assert (code, "named in one way; name a session" in line) == (2, True)
