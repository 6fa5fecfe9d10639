"""Who was away longer than a certificate lives comes back without an administrator; whoever was shut out does not."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from lab.visitor import fetch

SETTINGS = {
    "GLOAM_DEVICE_LIFETIME": "5s",
    "GLOAM_SERVICE_LIFETIME": "8s",
    "GLOAM_DEVICE_APPROVAL": "administrator",
}


async def ended(moment: str) -> None:
    """Returns when the certificate that says so has ended: what happens then is what this is about."""
    left = datetime.fromisoformat(moment) - datetime.now(UTC)
    await asyncio.sleep(max(0.0, left.total_seconds()) + 0.1)


async def test_who_was_away_too_long_recovers_and_whoever_is_revoked_stays_out(make_stage: Any) -> None:
    async with make_stage(settings=SETTINGS) as stage:
        perimeter = stage.perimeter
        alice = await stage.person(login=False)
        ends = (await perimeter.gateway_status("edge"))["certificate"]["expires"]
        await perimeter.processes["gateway-edge"].kill()
        await ended(ends)
        await ended((await alice.json("status"))["certificate"]["expires"])
        status = await alice.gloam("status")
        assert "gloam login gets another" in status.out

        await perimeter.start_gateway("edge")
        renewed = await stage.events("certificate.renewed", holder="gateway/edge")
        assert any(event["recovered"] for event in renewed)  # it may have renewed in time before it was killed

        await alice.login(alice.name)
        device = (await alice.json("status"))["device"]
        events = await stage.events("certificate.renewed", holder=f"device/{device}")
        assert events[0]["recovered"]
        assert not any(each["allowed"] for each in await alice.json("resources"))
        (listed,) = await perimeter.admin_json("device", "list")
        assert (listed["state"], listed["name"]) == ("waiting", listed["name"])
        await perimeter.admin_json("device", "approve", device[:8])
        await perimeter.admin_json("device", "rename", device[:8], "a laptop")
        forward, host, port = await alice.forward("wiki")
        assert (await fetch(host, port))[0] == 200
        await forward.stop()
        metrics = (await perimeter.admin("metrics")).out
        assert f'gloam_certificate_end_seconds{{holder="device/{device}",user="alice"}} ' in metrics

        await perimeter.admin_json("device", "revoke", device[:8])
        await alice.gloam("logout")
        await ended((await alice.json("status"))["certificate"]["expires"])
        refused = await alice.gloam("login", alice.name, "--password-stdin", text="whatever\n")
        # Her knock opens nothing; but the gateway, at the same address, may have knocked to renew its certificate.
        told = {
            3: "if the device was revoked, or that is more than 30 days ago, ask for a new invite",
            1: "this certificate is not accepted here any more",
        }
        assert told[refused.code] in refused.err
