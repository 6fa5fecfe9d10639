"""The controller's settings: `config.toml` in its state directory, every key overridable by `GLOAM_…`.

Laws:

1. Settings are frozen and checked as a whole when they are read: a controller runs with all of them or not at all.
2. Where a SQLite database lies is never a choice: it is a file of the state directory, so a backup of one is of both.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from certs.errors import BadName, StoreError
from certs.names import parse_domain, parse_label
from certs.store import check_state_directory
from console.address import HostPort
from console.settings import Duration, load_settings
from controller.errors import ControllerError, SettingsError
from spa.networks import parse_networks

CONFIG_FILE: Final = "config.toml"
DEFAULT_DATABASE: Final = "sqlite:///gloam.db"

_SECOND: Final = timedelta(seconds=1)


class ControllerSettings(BaseModel):
    """Everything an administrator may set."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    domain: str = Field(
        description="The trust domain: part of every name in every certificate. It cannot be changed later."
    )
    name: str = Field(
        "main", description="This controller's name, unlike that of every other controller on the same database."
    )
    listen: HostPort = Field(
        description="HOST:PORT where control connections (TLS over TCP) are accepted, after a knock."
    )
    knock: HostPort = Field(description="HOST:PORT where knocks (UDP) are accepted; never answered.")
    advertise: HostPort | None = Field(
        None, description="HOST:PORT that devices and gateways are told for control connections; without it, `listen`."
    )
    advertise_knock: HostPort | None = Field(
        None, description="HOST:PORT that devices and gateways are told for knocks; without it, `knock`."
    )
    database: str = Field(
        DEFAULT_DATABASE,
        description="The database: sqlite:///FILE in the state directory, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE.",
    )
    cloak: Literal["auto", "nftables", "socket-filter", "on-demand"] = Field(
        "auto",
        description="What keeps the port dark: nftables, socket-filter, on-demand, or auto (the first that works).",
    )
    shared_networks: tuple[str, ...] = Field(
        default=(),
        description="Networks, as 203.0.113.0/28, whose addresses stand for each other: UDP and TCP of one client may "
        "leave from different ones.",
    )
    session_lifetime: Duration = Field(
        timedelta(minutes=10), description="How long a session certificate counts; it is renewed at half of it."
    )
    device_lifetime: Duration = Field(timedelta(days=30), description="How long a device certificate counts.")
    service_lifetime: Duration = Field(
        timedelta(days=30), description="How long the certificates of controllers and gateways count."
    )
    recovery_grace: Duration = Field(
        timedelta(days=30),
        description="How long after the end of its certificate a device or gateway gets another by itself; 0s is not "
        "at all.",
    )
    device_limit: int = Field(10, ge=1, le=1000, description="How many devices a person may have that are not revoked.")
    device_approval: Literal["invite", "administrator"] = Field(
        "invite",
        description="What lets a new device in: its invite alone, or an administrator as well (device approve).",
    )
    invite_lifetime: Duration = Field(timedelta(hours=24), description="How long an invite can be used.")
    outage_grace: Duration = Field(
        timedelta(minutes=15),
        description="How long gateways keep live tunnels beyond their lease while no controller can be reached.",
    )
    lease_ack_timeout: Duration = Field(
        timedelta(milliseconds=500),
        description="How long an answer waits for gateways to acknowledge a lease; later ones are named as lagging.",
    )
    ping_interval: Duration = Field(
        timedelta(seconds=5),
        description="How often the controller pings each gateway; three missed pings end the link.",
    )
    reevaluate_interval: Duration = Field(
        timedelta(seconds=15), description="How often every live session is decided again, for what changes with time."
    )

    @field_validator("domain")
    @classmethod
    def _a_domain(cls, value: str) -> str:
        return _named(parse_domain, value)

    @field_validator("name")
    @classmethod
    def _a_label(cls, value: str) -> str:
        return _named(lambda text: parse_label(text, "controller name"), value)

    @field_validator(
        "session_lifetime",
        "device_lifetime",
        "service_lifetime",
        "invite_lifetime",
        "ping_interval",
        "reevaluate_interval",
    )
    @classmethod
    def _longer_than_nothing(cls, value: timedelta) -> timedelta:
        if value < _SECOND:
            raise ValueError("it must be one second or more")
        return value

    @field_validator("outage_grace", "lease_ack_timeout", "recovery_grace")
    @classmethod
    def _not_negative(cls, value: timedelta) -> timedelta:
        if value < timedelta():
            raise ValueError("it must not be negative")
        return value

    @field_validator("shared_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parse_networks(value)  # its BadNetwork is a ValueError
        return value

    @field_validator("database")
    @classmethod
    def _a_database(cls, value: str) -> str:
        try:
            database_url(value, Path("/"))
        except ControllerError as error:
            raise ValueError(str(error)) from error
        return value

    @model_validator(mode="after")
    def _told_ports_exist(self) -> Self:
        for key, told, own in (
            ("advertise", self.advertise, self.listen),
            ("advertise_knock", self.advertise_knock, self.knock),
        ):
            if (told or own).port == 0:
                raise ValueError(f"port 0 cannot be told to others: set {key}")
        return self

    @property
    def told_listen(self) -> HostPort:
        """Where others are told to connect."""
        return self.advertise or self.listen

    @property
    def told_knock(self) -> HostPort:
        """Where others are told to knock."""
        return self.advertise_knock or self.knock


def load_controller_settings(state: Path, environ: Mapping[str, str]) -> ControllerSettings:
    """The settings of a state directory and the environment. Raises CommandError in one line for what is wrong."""
    path = state / CONFIG_FILE
    if not path.is_file():
        raise SettingsError(
            f"there is no controller in {state}", "run gloam-controller init, or name another --state DIR"
        )
    try:
        check_state_directory(state)
    except StoreError as error:
        raise SettingsError(str(error), error.fix) from error
    settings = load_settings(ControllerSettings, path, environ)
    if path.stat().st_mode & 0o077 and "GLOAM_DATABASE" not in environ and _has_password(settings.database):
        what = f"{path} may be read by others than its owner, and holds the database's password"
        raise SettingsError(what, f"run chmod 600 {path}")
    return settings


def _has_password(database: str) -> bool:
    from controller.storage.database import parse_database_url

    url = parse_database_url(database)
    return url.password is not None or "password" in url.query


def database_url(setting: str, state: Path) -> str:
    """What Storage opens for the `database` setting; SQLite files are looked for in ``state``."""
    from controller.storage.database import parse_database_url, sqlite_path

    url = parse_database_url(setting)
    path = sqlite_path(url)
    if path is None:
        return url.render_as_string(hide_password=False)
    if path.name != str(path):
        raise SettingsError("the SQLite database would lie outside the state directory", f"use sqlite:///{path.name}")
    return url.set(database=str(state / path)).render_as_string(hide_password=False)


def _named(parse: Callable[[str], str], value: str) -> str:
    try:
        return parse(value)
    except BadName as error:
        raise ValueError(str(error)) from error
