"""What `status`, `resources` and `login` say: documents for machines, sentences and tables for people."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console

from client.agent.messages import StatusAnswer
from client.giving_up import Replaced
from client.state import ClientState
from console.output import Output, counted
from console.text import joined, visible
from wire.messages import ResourceView, SessionView

FEW: Final = 3
"""Backup codes left, from which on we say how to get new ones."""


def resource_document(resource: ResourceView) -> dict[str, Any]:
    """A resource, as `resources --json` and `status --json` have it."""
    return {
        "name": resource.name,
        "port": resource.port,
        "protocol": resource.protocol,
        "allowed": resource.allowed,
        "gateways": list(resource.gateways),
        "code": resource.code,
        "sentence": resource.sentence,
        "fix": resource.fix,
    }


def session_document(view: SessionView) -> dict[str, Any]:
    """A session, without its certificate."""
    return {
        "session": str(view.id),
        "user": view.user,
        "valid_until": view.valid_until.astimezone(UTC),
        "backup_codes_left": view.backup_codes,
        "resources": [resource_document(each) for each in in_order(view.resources)],
        "gateways": [
            {"name": each.name, "host": each.tls.host, "port": each.tls.port, "lagging": each.name in view.lagging}
            for each in view.gateways
        ],
    }


def status_document(here: ClientState, answer: StatusAnswer | None) -> dict[str, Any]:
    """Everything `status --json` says; every key is always there."""
    profile, ended, clock = here.profile(), here.ended(), here.clock()
    until, due = here.certified()
    session = answer.session if answer else None
    resuming = bool(answer and answer.resuming)
    offset = answer.clock_offset_us if answer else clock.offset_us
    return {
        "domain": profile.domain,
        "user": session.user if session else profile.user,
        "device": profile.device,
        "logged_in": session is not None or resuming,
        "resuming": resuming,
        "connected": bool(answer and answer.connected),
        "session": session_document(session) if session else None,
        "agent": answer.agent if answer else None,
        "problem": answer.problem if answer else "",
        "notice": answer.notice.model_dump() if answer and answer.notice else None,
        "ended": ended.model_dump() if ended and not session and not resuming else None,
        "renewal_due": answer.renewal_due if answer else None,
        "certificate": {
            "expires": until,
            "renewal_due": due,
            "problem": answer.renewal_problem if answer else "",
        },
        "keyring": here.keyring_entry is not None,
        "clock_offset_seconds": offset / 1_000_000,
        "controllers": [
            {"name": each.name, "host": each.tls.host, "port": each.tls.port} for each in profile.controllers
        ],
    }


def tell_status(output: Output, document: dict[str, Any], view: SessionView | None) -> None:
    """The status for people."""
    say = output.say
    say(f"Device:     {document['device']} in {document['domain']}")
    say(f"Certified:  {_certificate(document['certificate'])}")
    if document["keyring"]:
        say("Keys:       sealed; the system's keyring opens them")
    if view is None:
        ended = document["ended"]
        if document["resuming"]:
            say("Session:    there is one; it is being taken up again")
        elif ended:
            say(f"Session:    ended at {_time(ended['at'])}: {ended['sentence']}")
            say(f"            {ended['fix'] or 'run gloam login'}")
        else:
            say("Session:    not logged in; run gloam login")
    else:
        say(f"User:       {view.user}")
        say(f"Session:    {view.id} until {_time(view.valid_until)}, renewed by itself")
        _tell_codes(output, view.backup_codes)
    if document["problem"]:
        say(f"Problem:    {document['problem']}")
    elif view is not None:
        say("Controller: connected" if document["connected"] else "Controller: connecting")
    if document["notice"]:
        say(f"Notice:     {joined(document['notice']['sentence'], document['notice']['fix'])}")
    if document["clock_offset_seconds"]:
        say(f"Clock:      this machine is {-document['clock_offset_seconds']:+.0f} s off; knocks are corrected")
    if view is not None:
        output.say("")
        tell_resources(output, view.resources)


def _tell_codes(output: Output, left: int | None) -> None:
    """How many backup codes there are, for whom there are any."""
    if left is not None:
        more = "" if left > FEW else "; gloam backup-codes makes new ones"
        output.say(f"Codes:      {counted(left, 'backup code')} left{more}")


def tell_resources(output: Output, resources: Sequence[ResourceView]) -> None:
    """What may be reached, then what may not and why."""
    if not resources:
        output.say("No resources: ask the administrator for a grant.")
        return
    output.table(
        "Resources",
        ("RESOURCE", "PROTOCOL", "GATEWAYS", "ACCESS"),
        [
            (f"{each.name}:{each.port}", each.protocol, list(each.gateways), _access(each))
            for each in in_order(resources)
        ],
    )


def tell_session(console: Console, view: SessionView | None, *, stepped_up: bool = False) -> None:
    """The success of a login, or of a step-up, for people."""
    if view is None:
        console.print("Logged in.")
        return
    how = "Proved again: logged in" if stepped_up else "Logged in"
    console.print(visible(f"{how} as {view.user} until {_time(view.valid_until)}; the agent renews it."))
    allowed = [f"{each.name}:{each.port}" for each in in_order(view.resources) if each.allowed]
    if allowed:
        console.print(visible(f"You may reach {', '.join(allowed)}."))
    else:
        console.print("You may reach nothing yet: see gloam resources.")
    if view.lagging:
        console.print(visible(f"Not ready yet: gateway {', '.join(view.lagging)}."))


def replaced_document(former: Replaced | None) -> dict[str, Any] | None:
    """What became of the device that was enrolled here before."""
    if former is None:
        return None
    return {
        "device": former.device,
        "given_up": not former.problem,
        "problem": former.problem,
        "fix": former.fix,
    }


def tell_replaced(output: Output, former: Replaced | None) -> None:
    """The same for people, who must hear of a device that stays."""
    if former is None:
        return
    if former.problem:
        output.say(f"The former device {former.device} could not be given up: {former.problem.rstrip('.')}.")
        output.say(f"It stays: {former.fix}")
    else:
        output.say(f"The former device {former.device} is revoked.")


def backup_codes_document(codes: Sequence[str]) -> dict[str, Any]:
    """New backup codes, where there are some."""
    return {"backup_codes": list(codes)} if codes else {}


def tell_backup_codes(console: Console, codes: Sequence[str]) -> None:
    """New backup codes for people; they are not shown again."""
    console.print(
        "Backup codes, each good for one login without the authenticator. Keep them; they are not shown again:"
    )
    for code in codes:
        console.print(f"  {code}")


def in_order(resources: Sequence[ResourceView]) -> list[ResourceView]:
    """What is allowed first, each part by name."""
    return sorted(resources, key=lambda each: (not each.allowed, each.name, each.port))


def _certificate(certificate: dict[str, Any]) -> str:
    """Until when, and who sees to it."""
    if certificate["problem"]:
        return f"until {_time(certificate['expires'])}; {certificate['problem']}"
    if certificate["expires"] <= datetime.now(UTC):
        return f"ended at {_time(certificate['expires'])}; gloam login gets another"
    return f"until {_time(certificate['expires'])}, renewed by itself from {_time(certificate['renewal_due'])} on"


def _access(resource: ResourceView) -> str:
    if resource.allowed:
        return "yes"
    said = joined(resource.sentence, resource.fix)
    return f"no: {said}" if said else "no"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
