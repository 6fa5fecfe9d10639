"""Administrators at work: each command does what it says, and refuses in one line what it cannot do."""

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

from lab.processes import finish, script
from tests.controller.identity.oidc.signer import Signer
from tests.terminal import Typed, at_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_people_and_groups(shared_stage: Any) -> None:
    admin = shared_stage.perimeter
    await admin.admin_json("group", "add", "engineering")
    await admin.admin_json("group", "add", "oncall", "--parent", "engineering")
    await admin.add_user("dave", groups=["oncall"])
    await admin.admin_json("resource", "add", "builds", "--gateway", "edge", "--target", "127.0.0.1:9")
    await admin.admin_json("grant", "add", "--group", "engineering", "--resource", "builds", "--reason", "they build")
    explained = await admin.admin_json("policy", "explain", "--user", "dave", "--resource", "builds")
    assert explained["answer"] == "allow"  # by the group his group is in
    dave = next(each for each in await admin.admin_json("user", "list") if each["name"] == "dave")
    assert dave["groups"] == ["oncall"]
    await admin.admin_json("user", "set", "dave", "--no-groups")
    denied = await admin.admin("policy", "explain", "--user", "dave", "--resource", "builds")
    assert denied.code == 4
    assert "fix:" in denied.out


async def test_gateways_and_resources(shared_stage: Any) -> None:
    admin = shared_stage.perimeter
    edge = next(each for each in await admin.admin_json("gateway", "list") if each["name"] == "edge")
    assert edge["link"] == "up"
    assert edge["cloak"] in {"nftables", "socket-filter", "on-demand"}
    refused = await admin.admin("gateway", "remove", "edge")
    assert refused.code == 1
    assert "wiki" in refused.err
    places = ("--tunnel", "127.9.9.9:8443", "--knock", "127.9.9.9:62201", "--advertise", "gateway.example.test:443")
    added = await admin.admin_json("gateway", "add", "spare", *places)
    assert added["invite"].startswith("gloam-invite-v1.")
    assert (await admin.admin_json("gateway", "invite", "spare"))["invite"] != added["invite"]
    state = admin.directory / "spare"
    invite = (await admin.admin_json("gateway", "invite", "spare"))["invite"]
    assert (await finish([script("gloam-gateway"), "join", invite, "--state", str(state)])).code == 0
    listed = await admin.admin_json("invites", "list")
    assert {each["gateway"] for each in listed} == {"spare"}
    for each in listed:
        assert (await admin.admin_json("invites", "withdraw", each["id"][:13]))["withdrawn"]
    assert await admin.admin_json("invites", "list") == []
    assert "advertised_ports = [443]" in (state / "config.toml").read_text()
    await admin.admin_json("gateway", "remove", "spare")
    assert [each["name"] for each in await admin.admin_json("gateway", "list")] == ["edge"]


async def test_providers_are_shown_in_words_and_outlived_by_identities(shared_stage: Any) -> None:
    admin = shared_stage.perimeter
    signer = Signer()
    await signer.start()
    await admin.admin_json("group", "add", "builders")
    await admin.add_user("erin")
    settings = ("--groups-claim", "groups", "--group", "Eng=builders", "--mfa-amr", "mfa")
    added = ("provider", "add", "acme", "--issuer", signer.issuer, "--client-id", "gloam", "--client-secret-stdin")
    await admin.admin_json(*added, *settings, text="s3cret\n")
    shown = (await admin.admin("provider", "show", "acme")).out.splitlines()
    for line in (
        "client id: gloam",
        "client secret: kept",
        "scopes: openid, offline_access",
        "groups: Eng -> builders",
        "mfa amr: mfa",
        "mfa acr: none",
        "creates users: no",
        "grace: 1h",
    ):
        assert line in shown
    assert (await admin.admin_json("provider", "show", "acme"))["settings"]["groups"] == {"Eng": "builders"}
    await admin.admin_json("user", "link", "erin", "--provider", "acme", "--subject", "e-1")
    await admin.admin_json("provider", "remove", "acme")
    assert signer.issuer in (await admin.admin("user", "links", "erin")).out
    unknown = await admin.admin("user", "unlink", "erin", "--provider", "acme")
    assert "--issuer" in unknown.err
    unlinked = await admin.admin("user", "unlink", "erin", "--issuer", signer.issuer)
    assert unlinked.out == f"erin unlinked from {signer.issuer}, 0 sessions ended\n"
    await signer.stop()


async def test_nobody_is_asked_for_the_password_of_a_user_there_is_not(shared_stage: Any) -> None:
    state = shared_stage.perimeter.controller_state
    argv = [script("gloam-controller"), "user", "set", "nobodyx", "--password", "--state", str(state)]
    process = await at_terminal(argv, Typed("Password", "\x03"), env=os.environ, piped="")
    _, shown = await process.communicate()
    assert process.returncode == 1
    assert "there is no user 'nobodyx'" in shown.decode()
    assert "Password" not in shown.decode()


async def test_policies_are_checked_before_they_count(shared_stage: Any, tmp_path: Any) -> None:
    admin = shared_stage.perimeter
    good = tmp_path / "contractors.cedar"
    good.write_text(
        '@id("no-contractors")\n@reason("contractors stay out of payroll")\n@fix("ask the payroll team")\n'
        'forbid(principal in Group::"staff", action, resource == Resource::"payroll");\n'
    )
    bad = tmp_path / "wrong.cedar"
    bad.write_text('@id("typo")\npermit(principal, action, resource) when { principal.nmae == "x" };\n')
    assert (await admin.admin("policy", "check", str(good))).code == 0
    checked = await admin.admin("policy", "check", str(bad))
    assert checked.code == 1
    assert "wrong.cedar:2:" in checked.out
    assert (await admin.admin("policy", "apply", str(good), str(bad))).code == 1
    assert "no-contractors" not in (await admin.admin("policy", "show")).out
    assert (await admin.admin("policy", "apply", str(good))).code == 0
    assert "no-contractors" in (await admin.admin("policy", "show")).out
    alice = await shared_stage.person()
    await admin.admin_json("grant", "add", "--user", alice.name, "--resource", "payroll")
    refused = await alice.gloam("connect", "payroll", text="")
    assert refused.code == 4
    assert "contractors stay out of payroll" in refused.err
    assert "ask the payroll team" in refused.err
    await admin.admin_json("policy", "remove", "contractors.cedar")
    assert (await alice.gloam("connect", "payroll", text="GET / HTTP/1.0\r\n\r\n")).code == 0


async def test_sessions_are_listed_and_shown(shared_stage: Any) -> None:
    admin = shared_stage.perimeter
    alice = await shared_stage.person()
    session = next(each for each in await admin.admin_json("session", "list") if each["user"] == alice.name)
    shown = await admin.admin_json("session", "show", session["id"])
    assert {each["name"] for each in shown["resources"] if each["allowed"]} == {"wiki", "echo"}
    assert alice.name in (await admin.admin("session", "list")).out


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("user", "add", "Not A Name", "--password-stdin"), "lowercase"),
        (("user", "disable", "nobody-here"), "nobody-here"),
        (("resource", "add", "x", "--gateway", "nowhere", "--target", "127.0.0.1:1"), "nowhere"),
        (("resource", "add", "x", "--gateway", "edge", "--target", "no port"), "HOST:PORT"),
        (("grant", "add", "--group", "staff"), "--resource"),
        (("grant", "add", "--group", "staff", "--resource", "wiki", "--hours", "sometimes"), "Mon-Fri"),
        (("invite", "nobody-here"), "nobody-here"),
        (("device", "revoke", "not-a-uuid"), "id"),
        (("session", "revoke"), "--user"),
        (("policy", "explain", "--user", "nobody-here", "--resource", "wiki"), "nobody-here"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(shared_stage: Any, command: tuple[str, ...], said: str) -> None:
    done = await shared_stage.perimeter.admin(*command, text="secret\n")
    assert done.code in {1, 2}
    assert len(done.err.strip().splitlines()) == 1, done.err
    assert said in done.err


async def test_explain_answers_for_the_live_session_and_for_any_source(shared_stage: Any, tmp_path: Any) -> None:
    admin = shared_stage.perimeter
    alice = await shared_stage.person()
    office = tmp_path / "office.cedar"
    office.write_text(
        f'@id("office") forbid(principal == User::"{alice.name}", action, resource == Resource::"wiki")\n'
        'unless { context.source.isInRange(ip("127.0.0.0/8")) };\n'
    )
    assert (await admin.admin("policy", "apply", str(office))).code == 0
    explain = ("policy", "explain", "--user", alice.name, "--resource", "wiki")
    assert (await admin.admin(*explain)).code == 0
    assert (await alice.gloam("connect", "wiki", text="GET / HTTP/1.0\r\n\r\n")).code == 0
    assert (await admin.admin(*explain, "--source", "192.0.2.7")).code == 4
    assert (await admin.admin(*explain, "--source", "here")).code == 2
    await admin.admin_json("policy", "remove", "office.cedar")


WRONG = [
    "grant add --resource wiki",
    "grant add --group staff",
    "grant add --group staff --resource wiki --expires 5x",
    "grant add --group staff --resource wiki --hours Mon",
    "policy explain --user {user} --resource wiki --at tomorrow",
    "policy explain --user {user} --resource wiki --source 999.1.1.1",
    "gateway add third --tunnel 127.77.1.2 --knock 127.77.1.2:62201",
    "gateway add Third --tunnel 127.77.1.2:8443 --knock 127.77.1.2:62201",
    "resource add third --gateway edge --target 1.2.3.4",
    "resource add third --gateway edge --target 1.2.3.4:80 --port 0",
    "invite alice --provider corp",
]


async def test_wrong_usage_is_told_from_what_cannot_be_done(shared_stage: Any) -> None:
    user = (await shared_stage.person()).name
    for line in WRONG:
        done = await shared_stage.perimeter.admin(*line.format(user=user).split())
        assert (done.code, len(done.err.splitlines())) == (2, 1), (line, done)
    for line in ("grant add --group nobody --resource wiki", "gateway invite nowhere", "user disable nobody-here"):
        assert (await shared_stage.perimeter.admin(*line.split())).code == 1, line


async def test_nobody_forges_lines_of_the_log(shared_stage: Any) -> None:
    admin = shared_stage.perimeter
    alice = await shared_stage.person()
    refused = await admin.admin("session", "revoke", "--user", alice.name, "--reason", "a\n2026-11-22 session.ended")
    assert refused.code == 2
    await admin.admin_json("session", "revoke", "--user", alice.name, "--reason", "x  user=mallory")
    tail = (await admin.admin("audit", "tail", "-n", "50")).out
    assert '"x  user=mallory"' in tail


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
async def test_closed_streams_are_no_internal_error(shared_stage: Any, closed: str) -> None:
    state = shared_stage.perimeter.controller_state
    line = f"{script('gloam-controller')} user add zoe --password-stdin --state {state} {closed}"
    done = await finish(["bash", "-c", line])
    assert "internal error" not in done.err
    assert done.code in {1, 2}


async def test_json_errors_are_documents(shared_stage: Any) -> None:
    done = await shared_stage.perimeter.admin("user", "disable", "nobody-here", "--json")
    assert done.code == 1
    assert set(json.loads(done.err)) == {"error", "fix", "exit"}


async def test_somebody_else_may_not_administer(shared_stage: Any, tool: Callable[[str], str], as_root: None) -> None:
    path = shared_stage.perimeter.controller_state / "admin.sock"
    assert path.stat().st_mode & 0o777 == 0o600
    ask = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})"
    for directory in (path.parent.parent, path.parent):
        directory.chmod(0o755)
    done = await finish([tool("setpriv"), "--reuid", "65534", "--clear-groups", "/usr/bin/python3", "-c", ask])
    path.parent.chmod(0o700)
    assert "PermissionError" in done.err


async def test_without_a_controller_the_command_says_how_to_start_it(shared_stage: Any, tmp_path: Any) -> None:
    done = await finish([script("gloam-controller"), "user", "list", "--state", str(tmp_path)])
    assert done.code == 3
    assert "gloam-controller run" in done.err
