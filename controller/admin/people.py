"""Commands about users, groups, invites and devices."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from pydantic import Field

from console.address import BadDuration, parse_duration
from controller.admin.documents import Documents, documents
from controller.admin.server import Arguments, Command, Nothing
from controller.directory.lookup import listed_by
from controller.errors import Refused
from wire.invite import encode_invite

SHORTEST_BEGINNING: Final = 4  # of an identifier: fewer characters are a typing error

SHORTEST_INVITE: Final = timedelta(minutes=1)
LONGEST_INVITE: Final = timedelta(days=30)

if TYPE_CHECKING:
    from controller.assembly import Controller


class AddUser(Arguments):
    """`user add`."""

    name: str
    password: str | None = Field(None, repr=False)  # none: a service, unless it is said to be none
    service: bool | None = None
    groups: tuple[str, ...] = ()


class Named(Arguments):
    """Commands about one thing with a name."""

    name: str


class SetUser(Arguments):
    """`user set`; what is not given stays."""

    name: str
    groups: list[str] | None = None
    password: str | None = Field(None, repr=False)
    no_password: bool = False
    reset_totp: bool = False
    service: bool | None = None


class AddGroup(Arguments):
    """`group add`."""

    name: str
    parent: str | None = None


class MakeInvite(Arguments):
    """`invite`."""

    user: str | None = None
    provider: str | None = None
    expires: str | None = None


class ById(Arguments):
    """Commands about one thing with an identifier, or a beginning of it that no other has."""

    id: str


class Rename(Arguments):
    """`device rename`."""

    id: str
    name: str


def one_of(beginning: str, known: Sequence[UUID], noun: str) -> UUID:
    """The identifier that begins so. Raises Refused: not_found, ambiguous."""
    found = [each for each in known if str(each).startswith(beginning.lower())]
    if len(beginning) < SHORTEST_BEGINNING or not found:
        fix = f"see: gloam-controller {listed_by(noun)}"
        raise Refused("not_found", f"there is no {noun} {beginning[:64]!a}", fix)
    if len(found) > 1:
        raise Refused("ambiguous", f"{len(found)} {noun}s begin with {beginning!a}", "give more of the identifier")
    return found[0]


def people(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    users, devices = controller.users, controller.devices

    async def user_add(asked: AddUser, actor: str) -> Documents:
        identifier = await users.add(asked.name, asked.password, asked.groups, service=asked.service, actor=actor)
        return {"id": identifier, "name": asked.name}

    async def user_list(_: Nothing, __: str) -> Documents:
        return documents(await users.listing())

    async def user_disable(asked: Named, actor: str) -> Documents:
        before = sum(session.user == asked.name for session in controller.sessions.live())
        identifier = await users.disable(asked.name, actor=actor)
        after = sum(session.user == asked.name for session in controller.sessions.live())
        return {"id": identifier, "name": asked.name, "sessions_ended": before - after}

    async def user_enable(asked: Named, actor: str) -> Documents:
        return {"id": await users.enable(asked.name, actor=actor), "name": asked.name}

    async def user_unlock(asked: Named, actor: str) -> Documents:
        return {"name": asked.name, "forgotten": await users.unlock(asked.name, actor=actor)}

    async def user_set(asked: SetUser, actor: str) -> Documents:
        changed = await users.set(
            asked.name,
            groups=asked.groups,
            password=asked.password,
            no_password=asked.no_password,
            reset_totp=asked.reset_totp,
            service=asked.service,
            actor=actor,
        )
        ended = 0
        if changed.kind:
            sentence = f"an administrator made this account a {'service' if asked.service else 'person'}'s"
            ended = len(await controller.sessions.end_where(user=changed.id, sentence=sentence, actor=actor))
        return {"id": changed.id, "name": asked.name, "sessions_ended": ended}

    async def group_add(asked: AddGroup, actor: str) -> Documents:
        return {"id": await users.add_group(asked.name, asked.parent, actor=actor), "name": asked.name}

    async def group_list(_: Nothing, __: str) -> Documents:
        return documents(await users.groups())

    async def invite_make(asked: MakeInvite, actor: str) -> Documents:
        try:
            lifetime = None if asked.expires is None else parse_duration(asked.expires)
        except BadDuration as error:
            raise Refused("bad_duration", str(error), error.fix) from error
        if lifetime is not None and not SHORTEST_INVITE <= lifetime <= LONGEST_INVITE:
            raise Refused("bad_duration", "an invite is good for a minute to 30 days", "write 30m, 24h or 7d")
        match asked.user, asked.provider:
            case str(user), None:
                invite = await controller.invites.for_user(user, actor=actor, lifetime=lifetime)
            case None, str(provider):
                invite = await controller.invites.for_provider(provider, actor=actor, lifetime=lifetime)
            case _:
                raise Refused(
                    "bad_invite", "an invite is for one user or one provider's people", "name USER or --provider P"
                )
        document = {"invite": encode_invite(invite), "user": asked.user, "expires_at": invite.expires}
        return document | ({} if asked.provider is None else {"provider": asked.provider})

    async def invite_list(_: Nothing, __: str) -> Documents:
        return documents(await controller.invites.open())

    async def invite_withdraw(asked: ById, actor: str) -> Documents:
        invite = one_of(asked.id, [each.id for each in await controller.invites.open()], "invite")
        return {"id": invite, "withdrawn": await controller.invites.withdraw(invite, actor=actor)}

    async def device_list(_: Nothing, __: str) -> Documents:
        return documents(await devices.list())

    async def device_rename(asked: Rename, actor: str) -> Documents:
        device = one_of(asked.id, [each.id for each in await devices.list()], "device")
        await devices.rename(device, asked.name, actor=actor)
        return {"id": device, "name": asked.name}

    async def device_approve(asked: ById, actor: str) -> Documents:
        device = one_of(asked.id, [each.id for each in await devices.list()], "device")
        await devices.approve(device, actor=actor)
        return {"id": device}

    async def device_revoke(asked: ById, actor: str) -> Documents:
        device = one_of(asked.id, [each.id for each in await devices.list()], "device")
        revoked = await devices.revoke(device, actor=actor)
        return {"id": device, "sessions_ended": len(revoked.sessions), "lagging": revoked.lagging}

    return {
        "user.add": Command(AddUser, user_add),
        "user.list": Command(Nothing, user_list),
        "user.disable": Command(Named, user_disable),
        "user.enable": Command(Named, user_enable),
        "user.unlock": Command(Named, user_unlock),
        "user.set": Command(SetUser, user_set),
        "group.add": Command(AddGroup, group_add),
        "group.list": Command(Nothing, group_list),
        "invite.make": Command(MakeInvite, invite_make),
        "invite.list": Command(Nothing, invite_list),
        "invite.withdraw": Command(ById, invite_withdraw),
        "device.list": Command(Nothing, device_list),
        "device.rename": Command(Rename, device_rename),
        "device.approve": Command(ById, device_approve),
        "device.revoke": Command(ById, device_revoke),
    }
