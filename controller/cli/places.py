"""`gloam-controller gateway`, `resource`: what stands where."""

from typing import Annotated, Any

import typer

from console.output import Output
from controller.cli.options import Json, State, ask, done, noun, table

gateway = noun("gateway", "Gateways, which enforce.")
resource = noun("resource", "Resources, hidden behind gateways.")


@gateway.command("add")
def gateway_add(
    name: str,
    tunnel: Annotated[str, typer.Option("--tunnel", help="HOST:PORT where it accepts tunnels (TCP).")],
    knock: Annotated[str, typer.Option("--knock", help="HOST:PORT where it accepts knocks (UDP).")],
    advertise: Annotated[
        str | None, typer.Option("--advertise", help="HOST:PORT that clients use, if another.")
    ] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Register a gateway and print its invite.

    Example: gloam-controller gateway add edge --tunnel 192.0.2.10:8443 --knock 192.0.2.10:62201
    """
    document = ask(state, "gateway.add", name=name, tunnel=tunnel, knock=knock, advertise=advertise)

    def human(_: Any) -> None:
        print(document["invite"])  # noqa: T201 - to be copied: no wrapping, no styling

    Output(json=json).show(document, human)


@gateway.command("invite")
def gateway_invite(name: str, state: State = None, json: Json = False) -> None:
    """Print a new invite for a gateway whose own is lost, used up or expired.

    Example: gloam-controller gateway invite edge
    """
    document = ask(state, "gateway.invite", name=name)

    def human(_: Any) -> None:
        print(document["invite"])  # noqa: T201 - to be copied: no wrapping, no styling

    Output(json=json).show(document, human)


@gateway.command("list")
def gateway_list(state: State = None, json: Json = False) -> None:
    """List gateways and their links.

    Example: gloam-controller gateway list
    """
    columns = {
        "name": "NAME", "advertise": "TUNNELS", "knock": "KNOCKS", "link": "LINK", "cloak": "CLOAK", "tunnels": "LIVE",
        "certified_until": "CERTIFIED UNTIL", "resources": "RESOURCES",
    }  # fmt: skip
    table(ask(state, "gateway.list"), "Gateways", columns, as_json=json)


@gateway.command("remove")
def gateway_remove(name: str, state: State = None, json: Json = False) -> None:
    """Remove a gateway: its link is closed and its certificate no longer accepted.

    Example: gloam-controller gateway remove edge
    """
    done(ask(state, "gateway.remove", name=name), f"gateway {name} removed", as_json=json)


@resource.command("add")
def resource_add(
    name: str,
    gateway: Annotated[list[str], typer.Option("--gateway", help="A gateway that reaches it; may be repeated.")],
    target: Annotated[str, typer.Option("--target", help="HOST:PORT the gateway dials; HOST:PORT/udp for UDP.")],
    port: Annotated[int | None, typer.Option("--port", help="The port people name (else the target's).")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="tcp, udp or http (else the target's, or tcp).")
    ] = None,
    segment: Annotated[str | None, typer.Option("--segment", help="Resources granted together.")] = None,
    state: State = None,
    json: Json = False,
) -> None:
    """Register a resource. Nobody reaches it until a grant says so.

    Example: gloam-controller resource add wiki --gateway edge --target 10.0.0.5:80

    Example: gloam-controller resource add dns --gateway edge --target 10.0.0.5:53/udp
    """
    document = ask(
        state, "resource.add", name=name, gateways=gateway, target=target, port=port, protocol=protocol, segment=segment
    )
    done(document, f"resource {name} added; next: gloam-controller grant add --group G --resource {name}", as_json=json)


@resource.command("list")
def resource_list(state: State = None, json: Json = False) -> None:
    """List resources.

    Example: gloam-controller resource list
    """
    columns = {
        "name": "NAME", "port": "PORT", "protocol": "PROTOCOL", "target": "TARGET", "segment": "SEGMENT",
        "gateways": "GATEWAYS",
    }  # fmt: skip
    table(ask(state, "resource.list"), "Resources", columns, as_json=json)


@resource.command("remove")
def resource_remove(name: str, state: State = None, json: Json = False) -> None:
    """Remove a resource and the grants that name it: its tunnels are cut.

    Example: gloam-controller resource remove wiki
    """
    done(ask(state, "resource.remove", name=name), f"resource {name} removed", as_json=json)
