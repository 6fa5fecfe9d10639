"""From what a person typed to an open tunnel: ask the agent for the way, open it, tell denials from failures.

Laws:

1. A denial carries the controller's sentence and fix, and exit code 4; what cannot be reached says at which step, and
   exit code 3.
2. A gateway's refusal is explained by the controller, who knows the fix; the gateway's own sentence stands in for it.
3. When no gateway can be reached the way is asked for again, and tried if it is another: a session or a gateway may
   just have changed.
4. A tunnel that broke off was cut if the way is denied now, and then the reason is the controller's.
"""

from client.agent.messages import RouteAnswer, RouteCall
from client.ask import ask_session
from client.dial import CannotReach
from client.session import Target
from client.state import ClientState
from client.tunnel import Tunnel, TunnelDenied, Tunnels
from console.errors import CommandError, ExitCode


def parse_target(text: str, *, udp: bool = False) -> Target:
    """`RESOURCE[:PORT]` as typed; with `udp`, `/udp` behind it is good too. Raises CommandError (usage)."""
    target = Target.parse(text)
    if target is None:
        raise CommandError(f"{text!r} is not RESOURCE or RESOURCE:PORT", "see gloam resources", ExitCode.USAGE)
    if target.protocol == "udp" and not udp:
        raise CommandError(f"{target} means datagrams, which this cannot carry", _forward(target.name), ExitCode.USAGE)
    return target


def _forward(name: str) -> str:
    return f"use a local port: gloam forward {name}/udp"


async def find_way(state: ClientState, target: Target, *, fresh: bool = False) -> RouteAnswer:
    """The way to `target`. Raises CommandError with the reason and the fix."""
    try:
        asked = RouteCall(resource=target.name, port=target.port, fresh=fresh)
    except ValueError:
        raise CommandError(f"{target.name!r} is not a resource name", "see gloam resources", ExitCode.USAGE) from None
    answer = await ask_session(state, asked)
    if not isinstance(answer, RouteAnswer):
        raise CommandError("the agent answered something else", "run gloam logout and log in again")
    if answer.resource.protocol == "udp" and target.protocol != "udp":
        raise CommandError(f"{target.name} is a UDP resource", _forward(target.name))
    if answer.resource.protocol != "udp" and target.protocol == "udp":
        raise CommandError(f"{target.name} is not a UDP resource", f"ask for {target.name} without /udp")
    return answer


async def open_tunnel(state: ClientState, tunnels: Tunnels, target: Target) -> Tunnel:
    """An open tunnel to `target`. Raises CommandError with the reason and the fix."""
    way = await find_way(state, target)
    try:
        return await _open(state, tunnels, target, way)
    except CannotReach as error:
        fresh = await find_way(state, target, fresh=True)
        if fresh == way or error.step == "resource":
            raise unreachable(error) from error
    try:
        return await _open(state, tunnels, target, fresh)
    except CannotReach as error:
        raise unreachable(error) from error


async def _open(state: ClientState, tunnels: Tunnels, target: Target, way: RouteAnswer) -> Tunnel:
    try:
        return await tunnels.open(way)
    except TunnelDenied as denied:
        await find_way(state, target, fresh=True)  # raises with the controller's sentence and fix if it agrees
        fix = "run gloam status; log in again if it stays so"
        raise CommandError(str(denied), fix, ExitCode.DENIED) from denied


async def why_broken(state: ClientState, target: Target) -> CommandError:
    """What to say of an open tunnel to `target` that broke off; never `Denied`, which a command may try again."""
    try:
        await find_way(state, target, fresh=True)
    except CommandError as error:
        if error.code is not ExitCode.UNREACHABLE:
            return CommandError(f"the tunnel to {target} was cut: {error.what}", error.fix, error.code)
    return CommandError(f"the tunnel to {target} broke off", "try again; gloam status says if something is wrong")


def unreachable(error: CannotReach) -> CommandError:
    """The step that failed, as the command says it."""
    return CommandError(f"{error} (step: {error.step})", error.fix, ExitCode.UNREACHABLE)
