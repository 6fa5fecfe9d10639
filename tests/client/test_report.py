"""What `status` and `resources` say to people."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from client.giving_up import Replaced
from client.report import replaced_document, tell_replaced, tell_resources, tell_status
from console.output import Output
from wire.messages import ResourceView, SessionView

NOW = datetime.now(UTC)
STALE = ResourceView(
    name="build",
    port=80,
    protocol="tcp",
    gateways=("edge",),
    allowed=False,
    code="mfa_stale",
    sentence="build asks for a second factor no older than 20s; yours is 21s old.",
    fix="prove it again: gloam login --step-up",
)


def session(**changes: Any) -> SessionView:
    values: dict[str, Any] = {
        "id": UUID(int=1),
        "user": "ada",
        "certificate": "",
        "valid_until": NOW + timedelta(minutes=10),
        "resources": (),
        "gateways": (),
    }
    return SessionView(**(values | changes))


def status(view: SessionView, **changes: Any) -> str:
    document: dict[str, Any] = {
        "device": "d",
        "domain": "example.test",
        "certificate": {"problem": "", "expires": NOW + timedelta(days=9), "renewal_due": NOW + timedelta(days=5)},
        "keyring": False,
        "problem": "",
        "connected": True,
        "notice": None,
        "clock_offset_seconds": 0,
    }
    file = io.StringIO()
    tell_status(Output(file=file), document | changes, view)
    return file.getvalue()


@pytest.mark.parametrize(
    ("left", "line"),
    [
        (10, "Codes:      10 backup codes left\n"),
        (1, "Codes:      1 backup code left; gloam backup-codes makes new ones\n"),
        (0, "Codes:      0 backup codes left; gloam backup-codes makes new ones\n"),
        (None, ""),
    ],
)
def test_backup_codes_are_counted_for_whom_they_are(left: int | None, line: str) -> None:
    said = status(session(backup_codes=left))
    assert line in said
    assert ("Codes:" in said) is (left is not None)


def test_a_denial_is_one_line_with_one_stop() -> None:
    line = (
        "no: build asks for a second factor no older than 20s; yours is 21s old; prove it again: gloam login --step-up"
    )
    file = io.StringIO()
    tell_resources(Output(file=file), [STALE])
    assert line in file.getvalue()
    notice = {"code": "mfa_stale", "sentence": "This device waits for approval.", "fix": "ask an administrator"}
    said = status(session(resources=(STALE,)), notice=notice)
    assert line in said
    assert "Notice:     This device waits for approval; ask an administrator\n" in said


def test_a_device_that_stays_is_named_with_the_command_that_revokes_it() -> None:
    file = io.StringIO()
    tell_replaced(Output(file=file), Replaced("d", "nobody answers."))
    assert file.getvalue() == (
        "The former device d could not be given up: nobody answers.\n"
        "It stays: unless it is revoked already, ask an administrator for gloam-controller device revoke d\n"
    )
    file = io.StringIO()
    tell_replaced(Output(file=file), Replaced("d"))
    assert file.getvalue() == "The former device d is revoked.\n"
    tell_replaced(Output(file=file), None)
    assert replaced_document(None) is None
    assert replaced_document(Replaced("d")) == {"device": "d", "given_up": True, "problem": "", "fix": ""}
