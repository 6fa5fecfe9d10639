"""Commands about gateways and resources."""

from typing import TYPE_CHECKING

from controller.admin.documents import Documents, document, documents
from controller.admin.people import Named
from controller.admin.server import Arguments, Command, Nothing
from wire.invite import encode_invite

if TYPE_CHECKING:
    from controller.assembly import Controller


class AddGateway(Arguments):
    """`gateway add`."""

    name: str
    tunnel: str
    knock: str
    advertise: str | None = None


class AddResource(Arguments):
    """`resource add`."""

    name: str
    gateways: list[str]
    target: str
    port: int | None = None
    protocol: str | None = None
    segment: str | None = None


def places(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    registry, resources, links = controller.registry, controller.resources, controller.links

    async def gateway_add(asked: AddGateway, actor: str) -> Documents:
        identifier = await registry.add(asked.name, asked.tunnel, asked.knock, asked.advertise, actor=actor)
        invite = await controller.invites.for_gateway(asked.name, actor=actor)
        return {"id": identifier, "name": asked.name, "invite": encode_invite(invite), "expires_at": invite.expires}

    async def gateway_invite(asked: Named, actor: str) -> Documents:
        invite = await controller.invites.for_gateway(asked.name, actor=actor)
        return {"name": asked.name, "invite": encode_invite(invite), "expires_at": invite.expires}

    async def gateway_list(_: Nothing, __: str) -> Documents:
        up = links.connected()
        return [{**document(view), **_link(up.get(view.name), view.enrolled_at)} for view in await registry.listing()]

    async def gateway_remove(asked: Named, actor: str) -> Documents:
        identifier = await registry.remove(asked.name, actor=actor)
        controller.keys.drop_gateway(asked.name)
        return {"id": identifier, "name": asked.name}

    async def resource_add(asked: AddResource, actor: str) -> Documents:
        identifier = await resources.add(
            asked.name,
            asked.gateways,
            asked.target,
            port=asked.port,
            protocol=asked.protocol,
            segment=asked.segment,
            actor=actor,
        )
        return {"id": identifier, "name": asked.name}

    async def resource_list(_: Nothing, __: str) -> Documents:
        return documents(await resources.listing())

    async def resource_remove(asked: Named, actor: str) -> Documents:
        return {"name": asked.name, "grants_removed": await resources.remove(asked.name, actor=actor)}

    return {
        "gateway.add": Command(AddGateway, gateway_add),
        "gateway.invite": Command(Named, gateway_invite),
        "gateway.list": Command(Nothing, gateway_list),
        "gateway.remove": Command(Named, gateway_remove),
        "resource.add": Command(AddResource, resource_add),
        "resource.list": Command(Nothing, resource_list),
        "resource.remove": Command(Named, resource_remove),
    }


def _link(status: object, enrolled_at: object) -> dict[str, object]:
    """The link's part of a gateway's document: the same keys whether it is up or not."""
    if status is None:
        return {"link": "down" if enrolled_at else "waits for its invite to be used", "cloak": None, "tunnels": None}
    live = document(status)
    return {
        "link": "up",
        "cloak": live["cloak"],
        "tunnels": live["tunnels"],
        "since": live["since"],
        "from": live["source"],
    }
