"""`gloam-gateway join` against a controller of real sockets whose answers a test can set."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from certs.errors import StoreError
from certs.store import IdentityStore
from console.errors import CommandError, ExitCode
from gateway.config import IDENTITY, settings_path
from gateway.join import join
from tests.client.gateway import Authority
from tests.client.perimeter import Controller
from wire.enrol import ROOM
from wire.invite import InvitePurpose, encode_invite
from wire.messages import Address


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    made = Controller(Authority(), [])
    await made.start()
    made.answers.reply_change = {
        "listen": Address(host="192.0.2.2", port=8443),
        "knock": Address(host="192.0.2.2", port=62201),
    }
    yield made
    await made.close()


def invite(controller: Controller) -> str:
    return encode_invite(controller.invite(InvitePurpose.GATEWAY))


async def test_an_invite_makes_a_gateway(controller: Controller, tmp_path: Path) -> None:
    state = tmp_path / "gateway"
    settings = await join(invite(controller), state)
    assert (settings.name, settings.listen.port, settings.knock.port) == ("edge", 8443, 62201)
    assert IdentityStore(state).load(IDENTITY).name.id == "edge"
    assert not (state / ROOM).exists()
    with pytest.raises(CommandError, match="is a gateway already"):
        await join(invite(controller), state)
    assert len(controller.enrolments) == 1


async def test_a_directory_that_cannot_take_the_files_costs_no_invite(controller: Controller, tmp_path: Path) -> None:
    state = tmp_path / "gateway"
    state.mkdir(mode=0o700)
    (state / ROOM).write_text("in the way")
    text = invite(controller)
    with pytest.raises(StoreError, match="cannot keep"):
        await join(text, state)
    assert controller.enrolments == []
    (state / ROOM).unlink()
    await join(text, state)
    assert settings_path(state).exists()


async def test_joins_of_one_directory_exclude_each_other(controller: Controller, tmp_path: Path) -> None:
    state = tmp_path / "gateway"
    texts = [invite(controller) for _ in range(2)]
    done, refused = await asyncio.gather(*(join(each, state) for each in texts), return_exceptions=True)
    assert not isinstance(done, BaseException)
    assert "another enrolment is at work" in str(refused)
    assert len(controller.enrolments) == 1


async def test_a_failure_after_the_answer_says_that_the_invite_is_spent(controller: Controller, tmp_path: Path) -> None:
    state = tmp_path / "gateway"
    (state / "trust.pem").mkdir(parents=True)
    state.chmod(0o700)
    with pytest.raises(CommandError, match="did not take its files") as caught:
        await join(invite(controller), state)
    assert "new invite" in caught.value.fix
    assert not settings_path(state).exists()


async def test_a_used_invite_is_not_answered_and_the_fix_says_so(controller: Controller, tmp_path: Path) -> None:
    text = invite(controller)
    await controller.door.close()
    with pytest.raises(CommandError, match="an invite that was used is not answered either") as refused:
        await join(text, tmp_path / "gateway")
    assert refused.value.code is ExitCode.UNREACHABLE
