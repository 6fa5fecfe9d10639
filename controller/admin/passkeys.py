"""Commands about people's passkeys."""

from typing import TYPE_CHECKING

from controller.admin.documents import Documents, documents
from controller.admin.people import ById, Named, one_of
from controller.admin.server import Arguments, Command

if TYPE_CHECKING:
    from controller.assembly import Controller


class ListPasskeys(Arguments):
    """`passkey list`."""

    user: str | None = None


def passkeys(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    admin = controller.passkey_admin

    async def passkey_list(asked: ListPasskeys, _: str) -> Documents:
        return documents(await admin.listing(asked.user))

    async def passkey_remove(asked: ById, actor: str) -> Documents:
        passkey = one_of(asked.id, [each.id for each in await admin.listing()], "passkey")
        return {"id": passkey, "removed": await admin.remove(passkey, actor=actor)}

    async def passkey_reset(asked: Named, actor: str) -> Documents:
        return {"user": asked.name, "removed": await admin.reset(asked.name, actor=actor)}

    return {
        "passkey.list": Command(ListPasskeys, passkey_list),
        "passkey.remove": Command(ById, passkey_remove),
        "passkey.reset": Command(Named, passkey_reset),
    }
