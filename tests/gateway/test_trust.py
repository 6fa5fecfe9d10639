"""What a gateway believes: one bundle on the disk, replaced whole, and only by one of the same root."""

from pathlib import Path
from typing import Any

import pytest

from certs import Trust
from certs.store import write_public
from console.errors import CommandError
from gateway.config import TRUST
from gateway.trust import Believed
from tests.gateway.conftest import Authority
from wire.errors import RemoteError


async def test_a_bundle_of_the_same_root_is_on_the_disk_before_workers_read_it(authority: Any, tmp_path: Path) -> None:
    path = tmp_path / TRUST
    write_public(path, authority.trust.to_pem())
    read: list[Trust] = []

    async def reload() -> None:
        read.append(Trust.from_pem(path.read_bytes()))

    believed = Believed(tmp_path, reload)
    less = authority.trust.without_anchor(authority.trust.intermediates()[0])
    await believed.take(less.to_pem().decode())
    assert believed.current == less
    assert read == [less]
    await believed.take(less.to_pem().decode())  # nothing new: workers are left alone
    assert len(read) == 1


@pytest.mark.parametrize("other", ["root", "garbage", "nothing"])
async def test_another_root_is_refused_and_nothing_changes(authority: Any, tmp_path: Path, other: str) -> None:
    write_public(tmp_path / TRUST, authority.trust.to_pem())

    async def reload() -> None:
        pytest.fail("nothing was to be read")

    believed = Believed(tmp_path, reload)
    pem = {"root": Authority.make().trust.to_pem().decode(), "garbage": "hello", "nothing": ""}[other]
    with pytest.raises(RemoteError, match="a trust that cannot be taken"):
        await believed.take(pem)
    assert believed.current == authority.trust
    assert (tmp_path / TRUST).read_bytes() == authority.trust.to_pem()


def test_without_a_bundle_there_is_no_gateway(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read"):
        Believed(tmp_path, None)  # type: ignore[arg-type] # not reached
