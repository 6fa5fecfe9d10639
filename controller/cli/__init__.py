"""`gloam-controller`: the administrators' commands, a file for each handful of nouns.

people.py     user, group, invite, invites, device
passkeys.py   passkey
federation.py   provider, user link
places.py     gateway, resource
access.py     grant, policy
live.py       session, audit, status, metrics
authority.py  ca
copies.py     backup, restore
master.py     master-key
perimeter.py  init, run
options.py    what every command shares
"""

import typer

from console.run import run as run_app
from console.version import add_version
from controller.cli import access, authority, copies, federation, live, master, passkeys, people, perimeter, places

app = typer.Typer(
    name="gloam-controller",
    help="Administer a gloam perimeter: people, gateways, resources, and who may reach what.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
add_version(app, "gloam-controller")
app.command("init")(perimeter.init)
app.command("run")(perimeter.run)
app.command("backup")(copies.backup)
app.command("restore")(copies.restore)
people.user.command("link")(federation.user_link)
people.user.command("unlink")(federation.user_unlink)
people.user.command("links")(federation.user_links)
app.add_typer(people.user)
app.add_typer(people.group)
app.command("invite")(people.invite)
app.add_typer(people.invites)
app.add_typer(people.device)
app.add_typer(passkeys.passkey)
app.add_typer(federation.provider)
app.add_typer(places.gateway)
app.add_typer(places.resource)
app.add_typer(access.grant)
app.add_typer(access.policy)
app.add_typer(live.session)
app.add_typer(live.audit)
app.add_typer(authority.ca)
app.add_typer(master.master_key)
app.command("status")(live.status)
app.command("metrics")(live.metrics)


def main() -> None:
    """The console script."""
    run_app(app, "gloam-controller")
