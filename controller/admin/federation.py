"""Commands about identity providers, and who their people are here."""

from typing import TYPE_CHECKING

from pydantic import Field

from certs.secret import Secret
from controller.admin.documents import Documents, document, documents
from controller.admin.people import Named
from controller.admin.server import Arguments, Command, Nothing
from controller.directory.lookup import not_found
from controller.identity.oidc.providers import ProviderSettings

if TYPE_CHECKING:
    from controller.assembly import Controller


class AddProvider(Arguments):
    """`provider add`."""

    name: str
    issuer: str
    client_id: str
    client_secret: str | None = Field(None, repr=False)
    settings: ProviderSettings


class Link(Arguments):
    """`user link`."""

    user: str
    provider: str
    subject: str


class Unlink(Arguments):
    """`user unlink`: of a provider, or of an issuer whose provider there is no more."""

    user: str
    provider: str | None = None
    issuer: str | None = None


class Links(Arguments):
    """`user links`."""

    user: str | None = None


def federation(controller: "Controller") -> dict[str, Command]:
    """The commands of this file."""
    providers, identities = controller.openid.providers, controller.openid.identities

    async def provider_add(asked: AddProvider, actor: str) -> Documents:
        secret = None if asked.client_secret is None else Secret(asked.client_secret.encode())
        await providers.add(asked.name, asked.issuer, asked.client_id, secret, asked.settings, actor=actor)
        return {"name": asked.name, "issuer": asked.issuer}

    async def provider_list(_: Nothing, __: str) -> Documents:
        return documents(await providers.listing())

    async def provider_show(asked: Named, _: str) -> Documents:
        every = {each.name: each for each in await providers.listing()}
        if asked.name not in every:
            raise not_found("provider", asked.name, every)
        return document(every[asked.name])

    async def provider_remove(asked: Named, actor: str) -> Documents:
        return {"name": asked.name, "sessions_ended": await providers.remove(asked.name, actor=actor)}

    async def user_link(asked: Link, actor: str) -> Documents:
        await identities.link(asked.user, asked.provider, asked.subject, actor=actor)
        return {"user": asked.user, "provider": asked.provider, "subject": asked.subject}

    async def user_unlink(asked: Unlink, actor: str) -> Documents:
        ended = await identities.unlink(asked.user, asked.provider, issuer=asked.issuer, actor=actor)
        return {"user": asked.user, "provider": asked.provider, "issuer": asked.issuer, "sessions_ended": ended}

    async def user_links(asked: Links, _: str) -> Documents:
        return documents(await identities.listing(asked.user))

    return {
        "provider.add": Command(AddProvider, provider_add),
        "provider.list": Command(Nothing, provider_list),
        "provider.show": Command(Named, provider_show),
        "provider.remove": Command(Named, provider_remove),
        "user.link": Command(Link, user_link),
        "user.unlink": Command(Unlink, user_unlink),
        "user.links": Command(Links, user_links),
    }
