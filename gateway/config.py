"""A gateway's config.toml, frozen. `join` writes it; every key can be overridden by `GLOAM_…` (console/settings.py)."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator

from certs.names import Name, NameKind
from console.address import HostPort
from console.settings import Duration
from gateway import limits
from spa.cloak import CloakName
from spa.networks import parse_networks
from wire.limits import UDP_IDLE
from wire.messages import NAME, Address, ControllerAddress, Port

CONFIG: Final = "config.toml"
IDENTITY: Final = "gateway"
TRUST: Final = "trust.pem"
KNOCK_SECRET: Final = "knock.secret"  # noqa: S105 - the file's name
STATUS_SOCKET: Final = "status.sock"


class ControllerTable(BaseModel):
    """A controller this gateway may have its link with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, Field(pattern=NAME, description="Its name in the perimeter.")]
    tls: HostPort = Field(description="Where it accepts TLS.")
    knock: HostPort = Field(description="Where it accepts knocks (UDP).")

    @classmethod
    def of(cls, address: ControllerAddress) -> Self:
        """As a message carries it."""
        return cls(
            name=address.name,
            tls=HostPort(address.tls.host, address.tls.port),
            knock=HostPort(address.knock.host, address.knock.port),
        )

    def address(self) -> ControllerAddress:
        """As a message carries it."""
        return ControllerAddress(
            name=self.name,
            tls=Address(host=self.tls.host, port=self.tls.port),
            knock=Address(host=self.knock.host, port=self.knock.port),
        )


class GatewaySettings(BaseModel):
    """Every setting of a gateway."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, Field(pattern=NAME)] = Field(description="This gateway's name in the perimeter.")
    domain: str = Field(description="The trust domain of the perimeter.")
    listen: HostPort = Field(description="Where tunnels are accepted (TCP). Dark until somebody knocks.")
    knock: HostPort = Field(description="Where knocks are accepted (UDP). Never answers.")
    advertised_ports: tuple[Port, ...] = Field(
        default=(), description="Other port numbers clients know `listen` by, where a router forwards ports."
    )
    cloak: CloakName = Field(
        CloakName.AUTO,
        description="What keeps the port dark: nftables, socket-filter, on-demand, or auto (the first that works).",
    )
    shared_networks: tuple[str, ...] = Field(
        default=(),
        description="Networks, as 203.0.113.0/28, whose addresses stand for each other: UDP and TCP of one client may "
        "leave from different ones.",
    )
    drain: Duration = Field(
        timedelta(seconds=limits.DRAIN_DEADLINE),
        description="How long SIGTERM waits for live tunnels before it cuts them.",
    )
    workers: int = Field(
        0,
        ge=0,
        le=limits.MAX_WORKERS,
        description="Processes that carry tunnels; 0: one for each core there is for us.",
    )
    dial_timeout: Duration = Field(
        timedelta(seconds=limits.DIAL_DEADLINE), description="How long a resource may take to accept a connection."
    )
    udp_idle: Duration = Field(
        timedelta(seconds=UDP_IDLE),
        ge=timedelta(seconds=1),
        description="How long a UDP tunnel lives without a datagram. RFC 9298 advises two minutes at least.",
    )
    max_tunnels: int = Field(limits.MAX_TUNNELS, ge=1, description="Tunnels at a time, all sessions together.")
    max_tunnels_per_session: int = Field(
        limits.MAX_TUNNELS_PER_SESSION, ge=1, description="Tunnels at a time of one session."
    )
    tunnel_idle: Duration = Field(
        timedelta(seconds=limits.TUNNEL_IDLE),
        description="How long a tunnel may carry nothing before it is cut; 0s is for ever.",
    )
    tunnel_lifetime: Duration = Field(
        timedelta(seconds=limits.TUNNEL_LIFETIME),
        description="How long a tunnel may live, whatever it carries; 0s is as long as its lease allows.",
    )
    log_json: bool = Field(default=False, description="Logs as JSON, one document a line.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    controllers: tuple[ControllerTable, ...] = Field(
        min_length=1, max_length=16, description="The controllers, tried in turn."
    )

    @field_validator("shared_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_networks(value)  # its BadNetwork is a ValueError
        return value

    @property
    def identity_name(self) -> Name:
        """Who this gateway is."""
        return Name(self.domain, NameKind.GATEWAY, self.name)


def settings_path(state: Path) -> Path:
    """Where the settings of a state directory are."""
    return state / CONFIG
