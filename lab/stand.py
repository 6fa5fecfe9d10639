"""`gloam lab`: a perimeter that stays up, with commands to try, until Ctrl-C."""

import asyncio
import contextlib
import signal
import sys
from typing import Annotated

import typer

from console.errors import CommandError
from console.output import Output
from lab.addresses import KNOCK_PORT, TLS_PORT
from lab.perimeter import PASSWORD, Perimeter
from lab.processes import LabError, script


async def _stand(output: Output, cloak: str) -> None:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with Perimeter(cloak=cloak) as perimeter:
        output.say("starting a controller, two gateways and two hidden resources …")
        await perimeter.start_controller()
        await perimeter.add_gateway("edge")
        await perimeter.add_gateway("annex")
        await perimeter.add_resource("wiki", gateways=["edge", "annex"])
        await perimeter.add_resource("payroll", gateways=["edge"])
        await perimeter.admin_json("group", "add", "staff")
        await perimeter.add_user("alice", groups=["staff"])
        await perimeter.admin_json("grant", "add", "--group", "staff", "--resource", "wiki")
        alice = await perimeter.add_client("alice")
        await alice.login("alice")
        state, admin = f"--state {alice.state}", f"--state {perimeter.controller_state}"
        gloam, controller = script("gloam"), script("gloam-controller")
        edge, python = perimeter.gateways["edge"], sys.executable
        uri = alice.authenticator.uri if alice.authenticator else ""
        output.say(
            f"""
standing in {perimeter.directory}; alice is logged in
her password: {PASSWORD}
her authenticator's codes: {python} -c "import pyotp; print(pyotp.parse_uri('{uri}').now())"

as alice
  {gloam} status {state}
  {gloam} resources {state}
  {gloam} forward wiki --listen 127.0.0.1:8080 {state}        then: curl http://127.0.0.1:8080/
  {gloam} connect payroll {state}                              refused, with the reason and the fix
any HTTPS-proxy client: knock, then curl
  curl $({gloam} knock wiki {state}) http://wiki/
as a stranger
  nmap -sS -Pn -p {TLS_PORT} -e lo -S {perimeter.block.stranger} {edge}
  nmap -sU -Pn -p {KNOCK_PORT} -e lo -S {perimeter.block.stranger} {edge}
as the administrator
  {controller} status {admin}
  {controller} policy explain --user alice --resource payroll {admin}
  {controller} grant add --group staff --resource payroll {admin}
  {controller} session revoke --user alice {admin}
  {controller} audit tail --follow {admin}

Ctrl-C ends it and removes everything."""
        )
        try:
            await asyncio.Event().wait()
        finally:
            output.say("\nstopping …")


def main(
    cloak: Annotated[str, typer.Option("--cloak", help="auto, nftables, socket-filter or on-demand.")] = "auto",
) -> None:
    """A perimeter that stays up, with commands to try.

    Example: gloam lab
    """
    try:
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):  # how it is meant to end
            asyncio.run(_stand(Output(), cloak))
    except LabError as error:
        raise CommandError(str(error), "run it again with GLOAM_DEBUG=1, and report it") from error
