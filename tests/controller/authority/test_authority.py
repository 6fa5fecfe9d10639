from datetime import timedelta

import pytest
from sqlalchemy import delete, select

from certs import NameKind, Purpose, make_csr, name_of, new_private_key
from certs.errors import BadCertificate
from controller.authority import Authority
from controller.errors import SealError, StorageError
from controller.storage.models import Authority as Row
from controller.storage.sealing import Sealer
from tests.controller.perimeter import Perimeter


async def load(perimeter: Perimeter, sealer: Sealer | None = None) -> Authority:
    async with perimeter.storage.read() as db:
        return await Authority.load(db, sealer or perimeter.storage.sealer)


def csr() -> str:
    return make_csr(new_private_key()).decode()


async def test_there_is_a_root_and_an_intermediate_for_each_purpose(perimeter: Perimeter) -> None:
    authority = await load(perimeter)
    assert authority.domain == "example.test"
    assert {purpose: len(anchors) for purpose, anchors in authority.trust.anchors.items()} == dict.fromkeys(Purpose, 1)
    async with perimeter.storage.read() as db:
        rows = (await db.scalars(select(Row))).all()
    assert sorted(row.purpose for row in rows) == ["devices", "root", "services", "sessions"]
    assert not any(b"PRIVATE KEY" in row.sealed_key for row in rows)


@pytest.mark.parametrize(
    ("kind", "identifier"),
    [
        (NameKind.CONTROLLER, "main"),
        (NameKind.GATEWAY, "edge"),
        (NameKind.DEVICE, "3f0e7d2c-0000-4000-8000-000000000001"),
        (NameKind.SESSION, "3f0e7d2c-0000-4000-8000-000000000001"),
    ],
)
async def test_each_kind_is_issued_by_its_own_intermediate(
    perimeter: Perimeter, kind: NameKind, identifier: str
) -> None:
    authority = await load(perimeter)
    name = authority.name(kind, identifier)
    issued = authority.issue(name, csr(), now=perimeter.clock(), lifetime=timedelta(minutes=10))
    proven = name_of(
        issued.chain, anchors=authority.trust.only(kind.purpose), domain="example.test", now=perimeter.clock()
    )
    assert proven == name
    assert issued.valid_until == perimeter.clock() + timedelta(minutes=10)
    assert issued.chain_pem.count("BEGIN CERTIFICATE") == 2


async def test_a_bad_request_is_refused(perimeter: Perimeter) -> None:
    authority = await load(perimeter)
    with pytest.raises(BadCertificate):
        authority.issue(
            authority.name(NameKind.GATEWAY, "edge"), "nonsense", now=perimeter.clock(), lifetime=timedelta(days=1)
        )


async def test_another_master_key_opens_nothing(perimeter: Perimeter) -> None:
    with pytest.raises(SealError):
        await load(perimeter, Sealer.fresh())


async def test_a_key_moved_to_another_row_does_not_open(perimeter: Perimeter) -> None:
    async with perimeter.storage.change() as change:
        rows = {row.purpose: row for row in await change.db.scalars(select(Row))}
        rows["devices"].sealed_key, rows["sessions"].sealed_key = (
            rows["sessions"].sealed_key,
            rows["devices"].sealed_key,
        )
    with pytest.raises(SealError):
        await load(perimeter)


@pytest.mark.parametrize("purpose", ["root", "services", "devices", "sessions"])
async def test_a_missing_part_is_said(perimeter: Perimeter, purpose: str) -> None:
    async with perimeter.storage.change() as change:
        await change.db.execute(delete(Row).where(Row.purpose == purpose))
    with pytest.raises(StorageError) as caught:
        await load(perimeter)
    assert caught.value.fix
