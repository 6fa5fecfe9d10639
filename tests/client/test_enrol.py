import asyncio
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certs.errors import StoreError
from certs.secret import Secret
from client.clock import Clock
from client.enrol import NewDevice, enrol_device, invite_door, read_invite
from client.giving_up import Replaced
from client.profile import Ended
from client.state import ClientState
from console.errors import CommandError, ExitCode
from tests.client.perimeter import Perimeter
from wire.enrol import LOCK, ROOM, EnrolFailed, Enrolled, enrol
from wire.invite import InvitePurpose, encode_invite
from wire.messages import ControllerAddress, Refusal


async def test_an_invite_makes_a_device(perimeter: Perimeter, tmp_path: Path) -> None:
    state = ClientState(tmp_path / "state")
    new = await enrol_device(state, perimeter.controller.invite(), replace=False, name="laptop")
    profile = new.profile
    assert new.former is None
    assert profile.user == "ada"
    assert state.profile() == profile
    assert state.device().name == perimeter.controller.device == profile.name
    assert state.knock_secret() == perimeter.controller.knock_secret
    assert state.trust().root == perimeter.authority.trust.root
    assert state.clock().offset_us == 0
    private = ["device.key", "knock.secret", "profile.json"]
    assert [oct((state.directory / name).stat().st_mode & 0o777) for name in private] == ["0o600"] * 3
    assert oct(state.directory.stat().st_mode & 0o777) == "0o700"


async def test_a_device_is_replaced_only_when_asked(perimeter: Perimeter, tmp_path: Path) -> None:
    state = ClientState(tmp_path / "state")
    await enrol_device(state, perimeter.controller.invite(), replace=False, name=None)
    first = state.device()
    with pytest.raises(CommandError, match="already enrolled"):
        await enrol_device(state, perimeter.controller.invite(), replace=False, name=None)
    assert state.device() == first
    await enrol_device(state, perimeter.controller.invite(), replace=True, name=None)
    assert state.device() != first


async def test_a_wrong_clock_is_learnt(perimeter: Perimeter, tmp_path: Path) -> None:
    perimeter.controller.answers.clock_error = timedelta(seconds=90)
    state = ClientState(tmp_path / "state")
    await enrol_device(state, perimeter.controller.invite(), replace=False, name=None)
    assert abs(state.clock().offset_us - 90_000_000) < 5_000_000


async def test_a_stolen_address_does_not_help(perimeter: Perimeter, tmp_path: Path) -> None:
    invite = perimeter.controller.invite()
    other = replace(invite, root_spki_sha256=bytes(32))
    with pytest.raises(CommandError) as caught:
        await enrol_device(ClientState(tmp_path / "state"), other, replace=False, name=None)
    assert "does not belong to the perimeter" in caught.value.what
    assert "new invite" in caught.value.fix
    assert not (tmp_path / "state" / "profile.json").exists()


async def test_another_controllers_name_is_refused(perimeter: Perimeter, tmp_path: Path) -> None:
    controller = perimeter.controller
    with pytest.raises(EnrolFailed) as caught:
        await _enrol_as(perimeter, controller.address.model_copy(update={"name": "other"}))
    assert caught.value.reason == "wrong_name"


async def _enrol_as(perimeter: Perimeter, address: ControllerAddress) -> Enrolled:
    invite = perimeter.controller.invite()
    return await enrol(invite, address, invite_door(invite, perimeter.controller.address, Clock()).dial)


async def test_the_controllers_refusal_is_repeated(perimeter: Perimeter, tmp_path: Path) -> None:
    refusal = Refusal(code="invite_used", sentence="this invite was used already", fix="ask for a new invite")
    perimeter.controller.answers.enrol_refusal = (403, refusal)
    with pytest.raises(CommandError) as caught:
        await enrol_device(ClientState(tmp_path / "s"), perimeter.controller.invite(), replace=False, name=None)
    assert (caught.value.what, caught.value.fix, caught.value.code) == (refusal.sentence, refusal.fix, ExitCode.FAILED)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "00000000-0000-4000-8000-000000000000"},
        {"trust": "nothing"},
        {"certificate": "nothing"},
        {"knock_secret": b"short"},
    ],
)
async def test_a_reply_that_does_not_fit_together_is_not_believed(
    perimeter: Perimeter, tmp_path: Path, change: dict[str, object]
) -> None:
    perimeter.controller.answers.reply_change = change
    with pytest.raises(CommandError, match="cannot be believed"):
        await enrol_device(ClientState(tmp_path / "s"), perimeter.controller.invite(), replace=False, name=None)
    assert not (tmp_path / "s" / "profile.json").exists()


async def test_a_dead_controller_makes_way_for_the_next(perimeter: Perimeter, tmp_path: Path) -> None:
    good = perimeter.controller.address
    dead = good.model_copy(update={"tls": good.tls.model_copy(update={"port": 1})})
    invite = perimeter.controller.invite(controllers=(dead, good))
    state = ClientState(tmp_path / "state")
    await enrol_device(state, invite, replace=False, name=None)
    assert state.enrolled


async def test_an_expired_invite_that_nobody_answers_is_called_expired(perimeter: Perimeter, tmp_path: Path) -> None:
    invite = perimeter.controller.invite(expires=datetime.now(UTC) - timedelta(hours=1))
    unknown = replace(invite, secret=Secret.fresh())
    with pytest.raises(CommandError, match="expired"):
        await enrol_device(ClientState(tmp_path / "state"), unknown, replace=False, name=None)


async def test_a_gateways_invite_makes_a_gateway_of_that_name(perimeter: Perimeter) -> None:
    invite = perimeter.controller.invite(InvitePurpose.GATEWAY)
    door = invite_door(invite, perimeter.controller.address, Clock())
    enrolled = await enrol(invite, perimeter.controller.address, door.dial, platform="gateway")
    assert str(enrolled.name) == "spiffe://example.test/gateway/edge"
    other = perimeter.controller.invite(InvitePurpose.GATEWAY, subject="another")
    with pytest.raises(EnrolFailed, match="another gateway"):
        await enrol(other, perimeter.controller.address, invite_door(other, perimeter.controller.address, Clock()).dial)


def test_only_device_invites_enrol_devices(perimeter: Perimeter) -> None:
    with pytest.raises(CommandError, match="for a gateway"):
        read_invite(encode_invite(perimeter.controller.invite(InvitePurpose.GATEWAY)))
    with pytest.raises(CommandError, match="not an invite"):
        read_invite("hello")


@pytest.mark.parametrize("obstacle", [ROOM, LOCK])
async def test_a_directory_that_cannot_take_the_files_costs_no_invite(
    perimeter: Perimeter, tmp_path: Path, obstacle: str
) -> None:
    state = ClientState(tmp_path / "state")
    state.make()
    invite = perimeter.controller.invite()
    path = state.directory / obstacle
    if obstacle == LOCK:
        path.mkdir()
    else:
        path.write_text("in the way")
    with pytest.raises(StoreError, match="cannot keep what an enrolment brings") as caught:
        await enrol_device(state, invite, replace=False, name=None)
    assert "the same invite" in caught.value.fix
    assert perimeter.controller.enrolments == []
    path.rmdir() if path.is_dir() else path.unlink()
    await enrol_device(state, invite, replace=False, name=None)
    assert state.enrolled
    assert not (state.directory / ROOM).exists()


async def test_what_a_killed_enrolment_held_is_taken_over(perimeter: Perimeter, tmp_path: Path) -> None:
    state = ClientState(tmp_path / "state")
    state.make()
    for name in (ROOM, "enrolment.new"):
        (state.directory / name).mkdir()
        (state.directory / name / "profile.json").write_text("half")
    assert not state.enrolled
    await enrol_device(state, perimeter.controller.invite(), replace=False, name=None)
    kept = {each.name for each in state.directory.iterdir()}
    assert kept == {"clock.json", "device.key", "device.pem", LOCK, "knock.secret", "profile.json", "trust.pem"}


async def test_enrolments_of_one_directory_exclude_each_other(perimeter: Perimeter, tmp_path: Path) -> None:
    state = ClientState(tmp_path / "state")
    invites = [perimeter.controller.invite() for _ in range(3)]
    results = await asyncio.gather(
        *(enrol_device(state, each, replace=False, name=None) for each in invites), return_exceptions=True
    )
    assert results[0] == NewDevice(state.profile())
    assert all("another enrolment is at work" in str(each) for each in results[1:])
    assert perimeter.controller.enrolments == [invites[0].id]
    with pytest.raises(CommandError, match="already enrolled"):
        await enrol_device(state, invites[1], replace=False, name=None)
    assert perimeter.controller.enrolments == [invites[0].id]


async def test_the_old_device_stays_until_the_new_one_is_there(perimeter: Perimeter, tmp_path: Path) -> None:
    state = ClientState(tmp_path / "state")
    profile = (await enrol_device(state, perimeter.controller.invite(), replace=False, name=None)).profile
    first = state.device()
    perimeter.controller.expect_another_device()
    (state.directory / "enrolment.new").write_text("in the way")
    with pytest.raises(CommandError, match="did not take its files") as caught:
        await enrol_device(state, perimeter.controller.invite(), replace=True, name=None)
    assert "revoke the device" in caught.value.fix
    assert (state.profile(), state.device()) == (profile, first)
    assert perimeter.controller.given_up == [], "the new one is on no disk"


async def enrolled_twice(perimeter: Perimeter, tmp_path: Path, between: Callable[[ClientState], None]) -> NewDevice:
    """A device and then another in its place; the files are the new one's, whatever became of the old."""
    state, controller = ClientState(tmp_path / "state"), perimeter.controller
    await enrol_device(state, controller.invite(), replace=False, name=None)
    controller.expect_another_device()
    between(state)
    new = await enrol_device(state, controller.invite(), replace=True, name=None)
    assert state.device().name == controller.device == new.profile.name
    assert state.knock_secret() == controller.knock_secret
    return new


async def test_the_device_that_is_replaced_gives_itself_up(perimeter: Perimeter, tmp_path: Path) -> None:
    former = perimeter.controller.device
    new = await enrolled_twice(perimeter, tmp_path, lambda _state: None)
    assert new.former == Replaced(former.id)
    assert new.former.fix == ""
    assert perimeter.controller.given_up == [former]


async def test_a_device_that_was_told_it_is_revoked_has_nothing_to_give_up(
    perimeter: Perimeter, tmp_path: Path
) -> None:
    former = perimeter.controller.device

    def revoked(state: ClientState) -> None:
        sentence = "this device was revoked"
        state.save_ended(Ended(code="device_revoked", sentence=sentence, at=datetime.now(UTC)))

    assert (await enrolled_twice(perimeter, tmp_path, revoked)).former == Replaced(former.id)
    assert perimeter.controller.given_up == []


@pytest.mark.parametrize("why", ["refused", "key", "dark"])
async def test_a_device_that_cannot_give_itself_up_is_named_with_what_helps(
    perimeter: Perimeter, tmp_path: Path, why: str
) -> None:
    former, address = perimeter.controller.device, perimeter.controller.address
    says = {"refused": "not accepted here", "key": "cannot be read", "dark": "does not answer"}

    def prevent(state: ClientState) -> None:
        match why:
            case "refused":
                refusal = Refusal(code="not_welcome", sentence="this certificate is not accepted here any more")
                perimeter.controller.answers.give_up_refusal = refusal
            case "key":
                (state.directory / "device.key").write_bytes(b"damaged")
            case "dark":
                path = state.directory / "profile.json"
                path.write_text(path.read_text().replace(f'"port": {address.tls.port}', '"port": 1'))

    new = await enrolled_twice(perimeter, tmp_path, prevent)
    assert new.former is not None
    assert says[why] in new.former.problem
    assert f"gloam-controller device revoke {former.id}" in new.former.fix
    assert perimeter.controller.given_up == []


@pytest.mark.parametrize("moved", range(7))
async def test_a_crash_while_the_files_are_moved_is_mended(perimeter: Perimeter, tmp_path: Path, moved: int) -> None:
    state = perimeter.device_state(tmp_path / "state")
    former = state.device()
    other = perimeter.device_state(tmp_path / "other")
    committed = state.directory / "enrolment"
    shutil.copytree(other.directory, committed)
    order = ("trust.pem", "knock.secret", "device.key", "device.pem", "clock.json", "profile.json")
    for name in order[:moved]:
        (committed / name).replace(state.directory / name)
    assert state.enrolled
    assert state.profile() == other.profile()
    assert state.device() == other.device() != former
    assert not committed.exists()
