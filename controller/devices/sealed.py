"""Where the sealed secrets of devices, gateways and invites belong: a value moved to another row does not open."""

from uuid import UUID


def device_knock(device: UUID) -> str:
    """The context of `device.sealed_knock_secret` and `sealed_next_knock_secret`: the one becomes the other."""
    return f"device/{device}/knock"


def gateway_knock(gateway: UUID) -> str:
    """The context of `gateway.sealed_knock_secret` and `sealed_next_knock_secret`: the one becomes the other."""
    return f"gateway/{gateway}/knock"


def invite_secret(invite: UUID) -> str:
    """The context of `invite.sealed_secret`."""
    return f"invite/{invite}/secret"
