"""Commands about the certificate authority."""

from typing import TYPE_CHECKING
from uuid import UUID

from cryptography import x509
from pydantic import Field

from certs.names import Purpose
from certs.verify import spki_sha256
from controller.admin.documents import Documents, document, documents
from controller.admin.people import one_of
from controller.admin.server import Arguments, Command, Nothing
from controller.errors import Refused
from controller.safekeeping.root import SigningRequest

if TYPE_CHECKING:
    from controller.assembly import Controller


class OfPurpose(Arguments):
    """`ca losing` (who would lose access), `ca request`."""

    purpose: Purpose


class Rotate(Arguments):
    """`ca rotate`."""

    purpose: Purpose
    at_once: bool = False


class Install(Arguments):
    """`ca install`; without `sure` it only says for which purpose."""

    certificate: str = Field(max_length=32_768)
    at_once: bool = False
    sure: bool = True


class Retire(Arguments):
    """`ca retire`; without `sure` it only says who would lose access."""

    id: str = Field(max_length=36)
    sure: bool = False


def authority(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    rotation, held = controller.rotation, controller.authority

    async def show(_: Nothing, __: str) -> Documents:
        root = held.trust.root
        return {
            "domain": held.domain,
            "root": {
                "sha256": spki_sha256(root).hex(),
                "valid_from": root.not_valid_before_utc,
                "valid_until": root.not_valid_after_utc,
                "key": "offline" if held.root_offline else "in the database, sealed",
            },
            "intermediates": documents(await rotation.show()),
        }

    async def losing(asked: OfPurpose, _: str) -> Documents:
        return documents(await rotation.losing(asked.purpose))

    async def rotate(asked: Rotate, actor: str) -> Documents:
        return document(await rotation.rotate(asked.purpose, actor=actor, at_once=asked.at_once))

    async def request(asked: OfPurpose, actor: str) -> Documents:
        csr, identifier = await rotation.request(asked.purpose, actor=actor)
        text = SigningRequest(
            domain=held.domain, purpose=asked.purpose, root_sha256=held.root_sha256.hex(), csr=csr.decode()
        )
        return {"id": identifier, "purpose": asked.purpose, "request": text.model_dump_json(indent=2)}

    async def install(asked: Install, actor: str) -> Documents:
        try:
            certificate = x509.load_pem_x509_certificate(asked.certificate.encode())
        except ValueError:
            raise Refused("unfit_certificate", "this is no certificate", "name the file that ca sign wrote") from None
        made = await rotation.install(certificate, actor=actor, at_once=asked.at_once, sure=asked.sure)
        return {"purpose": made} if isinstance(made, Purpose) else document(made)

    async def retire(asked: Retire, actor: str) -> Documents:
        identifier: UUID = one_of(asked.id, [one.id for one in held.intermediates], "intermediate")
        if asked.sure:
            return {
                "id": identifier,
                "retired": True,
                "losing": documents(await rotation.retire(identifier, actor=actor)),
            }
        one = next(one for one in held.intermediates if one.id == identifier)
        return {"id": identifier, "retired": False, "losing": documents(await rotation.holders(one))}

    return {
        "ca.show": Command(Nothing, show),
        "ca.losing": Command(OfPurpose, losing),
        "ca.rotate": Command(Rotate, rotate),
        "ca.request": Command(OfPurpose, request),
        "ca.install": Command(Install, install),
        "ca.retire": Command(Retire, retire),
    }
