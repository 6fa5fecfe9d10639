"""Commands about grants and policies."""

from typing import TYPE_CHECKING

from controller.admin.documents import Documents, document, documents
from controller.admin.people import Named
from controller.admin.server import Arguments, Command, Nothing
from controller.decision.check import PolicyFile
from controller.decision.decide import NOWHERE
from controller.sessions import outlook

if TYPE_CHECKING:
    from controller.assembly import Controller


class AddGrant(Arguments):
    """`grant add`; one of group and user, one of resource and segment."""

    group: str | None = None
    user: str | None = None
    resource: str | None = None
    segment: str | None = None
    hours: str | None = None
    mfa_within: str | None = None
    expires: str | None = None
    reason: str | None = None


class RemoveGrant(Arguments):
    """`grant remove`: the identifier, or a beginning of it that no other has."""

    id: str


class File(Arguments):
    """A policy file."""

    name: str
    text: str


class Files(Arguments):
    """`policy check` and `policy apply`."""

    files: list[File]


class Explain(Arguments):
    """`policy explain`."""

    user: str
    resource: str
    at: str | None = None
    source: str | None = None


def access(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    grants, policies = controller.grants, controller.policies

    async def grant_add(asked: AddGrant, actor: str) -> Documents:
        return document(await grants.add(**asked.model_dump(), actor=actor))

    async def grant_list(_: Nothing, __: str) -> Documents:
        return documents(await grants.listing())

    async def grant_remove(asked: RemoveGrant, actor: str) -> Documents:
        return {"id": await grants.remove(asked.id, actor=actor)}

    async def policy_check(asked: Files, _: str) -> Documents:
        return document(await policies.check(_files(asked)))

    async def policy_apply(asked: Files, actor: str) -> Documents:
        return document(await policies.apply(_files(asked), actor=actor))

    async def policy_remove(asked: Named, actor: str) -> Documents:
        return {"name": asked.name, "revision": await policies.remove(asked.name, actor=actor)}

    async def policy_show(_: Nothing, __: str) -> Documents:
        return {"revision": controller.directory.current.revision, "policies": documents(await policies.show())}

    async def policy_explain(asked: Explain, _: str) -> Documents:
        live = [each for each in controller.sessions.live() if each.user == asked.user]
        if not live or asked.source is not None:
            return document(policies.explain(asked.user, asked.resource, asked.at, source=asked.source or NOWHERE))
        newest = live[-1]
        facts = outlook.facts_of(newest)
        told = document(policies.explain(asked.user, asked.resource, asked.at, session=facts))
        return {**told, "assumed": f"nothing: it is the answer for their live session {newest.id} from {newest.source}"}

    return {
        "grant.add": Command(AddGrant, grant_add),
        "grant.list": Command(Nothing, grant_list),
        "grant.remove": Command(RemoveGrant, grant_remove),
        "policy.check": Command(Files, policy_check),
        "policy.apply": Command(Files, policy_apply),
        "policy.remove": Command(Named, policy_remove),
        "policy.show": Command(Nothing, policy_show),
        "policy.explain": Command(Explain, policy_explain),
    }


def _files(asked: Files) -> list[PolicyFile]:
    return [PolicyFile(file.name, file.text) for file in asked.files]
