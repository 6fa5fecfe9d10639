import tomllib
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from console.address import HostPort
from console.errors import CommandError, ExitCode
from console.settings import Duration, dump_settings, load_settings


class Cloak(StrEnum):
    AUTO = "auto"
    ON_DEMAND = "on-demand"


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Strict):
    tunnels: int = Field(1000, ge=1, description="How many tunnels at once.")
    grace: Duration = Field(timedelta(minutes=15), description="How long tunnels outlive the controller.")


class Peer(Strict):
    name: str
    weight: float = 1.0


class Settings(Strict):
    domain: str = Field(description="The trust domain.")
    listen: HostPort = Field(HostPort("127.0.0.1", 8443), description="Where to listen.")
    cloak: Cloak = Field(Cloak.AUTO, description="What keeps the port dark.")
    verbose: bool = False
    hosts: tuple[str, ...] = ()
    ports: list[int] = []
    labels: dict[str, str] = {}
    database: str | None = Field(None, description="Where the database is.")
    limits: Limits = Field(Limits(), description="What is too much.")
    backup: Annotated[Limits | None, "optional"] = None
    peers: list[Peer] = []
    log_level: str = Field("info", alias="level")
    state: str = "unset"

    @field_validator("domain")
    @classmethod
    def _no_spaces(cls, value: str) -> str:
        if " " in value:
            msg = "A domain has no spaces"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _together(self) -> "Settings":
        if self.verbose and self.log_level == "error":
            msg = "verbose and error exclude each other"
            raise ValueError(msg)
        return self


def load(tmp_path: Path, text: str = 'domain = "example.test"', **environ: str) -> Settings:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_settings(Settings, path, environ)


def refused(tmp_path: Path, text: str = 'domain = "example.test"', **environ: str) -> str:
    with pytest.raises(CommandError) as caught:
        load(tmp_path, text, **environ)
    assert caught.value.code is ExitCode.FAILED
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(tmp_path), "/state")


def test_the_file_gives_the_settings(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        """
        domain = "example.test"
        listen = "[::1]:1"
        cloak = "on-demand"
        level = "debug"
        hosts = ["a", "b"]
        labels = {a = "1"}
        [limits]
        grace = "1h"
        [[peers]]
        name = "one"
        """,
    )
    assert settings.listen == HostPort("::1", 1)
    assert settings.cloak is Cloak.ON_DEMAND
    assert settings.log_level == "debug"
    assert settings.hosts == ("a", "b")
    assert settings.limits == Limits(grace=timedelta(hours=1))
    assert settings.peers == [Peer(name="one")]


def test_the_environment_wins_and_is_enough(tmp_path: Path) -> None:
    environ = {
        "GLOAM_DOMAIN": "other.test",
        "GLOAM_VERBOSE": "true",
        "GLOAM_HOSTS": "a, b,",
        "GLOAM_PORTS": "[1, 2]",
        "GLOAM_LABELS": '{a = "1"}',
        "GLOAM_LIMITS__TUNNELS": "7",
        "GLOAM_LIMITS": '{tunnels = 5, grace = "1m"}',
        "GLOAM_BACKUP__GRACE": "5s",
        "GLOAM_LEVEL": "debug",
        "GLOAM_DATABASE": "sqlite://",
        "GLOAM_STATE": "/var/lib/gloam",
        "GLOAM_DEBUG": "1",
        "GLOAM_MASTER_KEY": "…",
        "GLOAM_POSTGRES_PORT_5432_TCP": "tcp://10.0.0.1:5432",
        "HOME": "/root",
    }
    settings = load_settings(Settings, tmp_path / "absent.toml", environ)
    assert settings == Settings.model_validate(
        {
            "domain": "other.test",
            "verbose": True,
            "hosts": ("a", "b"),
            "ports": [1, 2],
            "labels": {"a": "1"},
            "limits": {"tunnels": 7, "grace": "1m"},
            "backup": {"grace": "5s"},
            "level": "debug",
            "database": "sqlite://",
        }
    )
    assert settings.state == "unset", "GLOAM_STATE is where the state is, whatever a model calls its keys"
    assert (
        load(tmp_path, 'domain = "example.test"\n[limits]\ntunnels = 3', GLOAM_LIMITS__GRACE="1s").limits.tunnels == 3
    )


def test_another_prefix(tmp_path: Path) -> None:
    environ = {"OTHER_DOMAIN": "a", "GLOAM_DOMAIN": "b"}
    assert load_settings(Settings, tmp_path / "absent", environ, prefix="OTHER_").domain == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("domian = 'x'", "/state/config.toml has an unknown key domian; did you mean domain?"),
        ("log_level = 'x'", "/state/config.toml has an unknown key log_level; did you mean level?"),
        (
            "domain = 'x'\n[limits]\ntunels = 1",
            "/state/config.toml has an unknown key limits.tunels; did you mean tunnels?",
        ),
        ("[backup]\ngrase = '1s'", "/state/config.toml has an unknown key backup.grase; did you mean grace?"),
        ("[[peers]]\nnam = 'x'", "/state/config.toml has an unknown key peers.nam; did you mean name?"),
        (
            "[limits]\nzzz = 1",
            "/state/config.toml has an unknown key limits.zzz; remove it; the keys here are tunnels, grace",
        ),
        (
            "",
            "/state/config.toml lacks domain (The trust domain); add domain to it, or set GLOAM_DOMAIN",
        ),
        (
            "domain = 'x'\n[[peers]]\nweight = 1.5",
            "/state/config.toml lacks peers.0.name; add peers.0.name to it",
        ),
        (
            "domain = 'a b'",
            "/state/config.toml: domain is not right: a domain has no spaces; correct it (The trust domain)",
        ),
        (
            "domain = 'x'\nlimits = {tunnels = 0}",
            "limits.tunnels is not right: input should be greater than or equal to 1; correct it (How many tunnels",
        ),
        ("domain = 'x'\nverbose = 'maybe'", "input should be a valid boolean, unable to interpret input; correct it"),
        ("domain = 'x'\nlisten = 'nowhere'", "'nowhere' has no port; correct it (Where to listen)"),
        ("domain = 'x'\nlimits = {grace = 'soon'}", "'soon' is not a duration; correct it (How long tunnels outlive"),
        ("domain = 'x'\nlimits = 3", "/state/config.toml: limits is not right: "),
        ("domain = 'x'\nverbose = true\nlevel = 'error'", "the settings together is not right: verbose and error excl"),
        ("domain =", "/state/config.toml is not TOML: Invalid value (at end of document); correct that place"),
        ("a = " + "[" * 5000, "/state/config.toml is not TOML: "),
        ("#" * 1_100_000, "/state/config.toml is longer than"),
    ],
)
def test_what_is_wrong_in_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"GLOAM_DOMIAN": "x"}, "the variable GLOAM_DOMIAN is no setting; did you mean GLOAM_DOMAIN?"),
        (
            {"GLOAM_LIMITS__TUNELS": "1"},
            "the variable GLOAM_LIMITS__TUNELS is no setting; did you mean GLOAM_LIMITS__TUNNELS?",
        ),
        ({"GLOAM_LIMITS__TUNNELS": "many"}, "the variable GLOAM_LIMITS__TUNNELS is not right: input should be a valid"),
        ({"GLOAM_LIMITS": "{tunnels = 0}"}, "the variable GLOAM_LIMITS is not right: input should be greater"),
        ({"GLOAM_LIMITS": "7 7"}, "the variable GLOAM_LIMITS is not a TOML value; write it as in the file"),
        ({"GLOAM_PORTS": "[1,"}, "the variable GLOAM_PORTS is not a TOML value"),
        ({"GLOAM_PORTS": "1,x"}, "the variable GLOAM_PORTS is not right"),
    ],
)
def test_what_is_wrong_in_the_environment_names_the_variable(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    assert message in refused(tmp_path, **environ)


def test_a_variable_inside_what_is_no_table(tmp_path: Path) -> None:
    text = refused(tmp_path, "domain = 'x'\nlimits = 3", GLOAM_LIMITS__TUNNELS="1")
    assert "the variable GLOAM_LIMITS__TUNNELS overrides part of limits; make limits a table in the file" in text


def test_a_value_is_never_shown(tmp_path: Path) -> None:
    assert "hunter2" not in refused(tmp_path, 'domain = "x"\nverbose = "hunter2"')
    assert "hunter2" not in refused(tmp_path, GLOAM_LIMITS__TUNNELS="hunter2")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read: Is a directory"):
        load_settings(Settings, tmp_path, {})
    (tmp_path / "config.toml").write_bytes(b"domain = '\xff'")
    with pytest.raises(CommandError, match="is not TOML"):
        load_settings(Settings, tmp_path / "config.toml", {})


def test_a_new_file_says_what_its_keys_mean() -> None:
    text = dump_settings(Settings(domain="example.test", peers=[Peer(name="one")]))
    assert text.startswith(
        '# The trust domain.\ndomain = "example.test"\n\n# Where to listen.\nlisten = "127.0.0.1:8443"\n'
    )
    assert "# Where the database is.\n# database =\n" in text
    assert "# What is too much.\n[limits]\n# How many tunnels at once.\ntunnels = 1000\n" in text
    assert 'grace = "15m"' in text
    assert 'level = "info"' in text


@given(
    st.builds(
        Settings,
        domain=st.text().map(lambda text: text.replace(" ", "_")),
        cloak=st.sampled_from(Cloak),
        hosts=st.lists(st.text()).map(tuple),
        ports=st.lists(st.integers()),
        labels=st.dictionaries(st.text(), st.text()),
        database=st.none() | st.text(),
        limits=st.builds(
            Limits, tunnels=st.integers(1), grace=st.integers(0, 10**9).map(lambda s: timedelta(seconds=s))
        ),
        backup=st.none() | st.just(Limits()),
        peers=st.lists(st.builds(Peer, name=st.text(), weight=st.floats(allow_nan=False, allow_infinity=False))),
    )
)
def test_what_is_dumped_loads_as_the_same_settings(settings: Settings) -> None:
    assert Settings.model_validate(tomllib.loads(dump_settings(settings))) == settings


def test_an_empty_table_is_a_table() -> None:
    class Nothing(BaseModel):
        pass

    class Outer(BaseModel):
        inner: Nothing = Nothing()
        after: int = 1

    assert tomllib.loads(dump_settings(Outer())) == {"inner": {}, "after": 1}


def test_a_secret_is_not_for_a_file() -> None:
    class WithSecret(BaseModel):
        key: SecretStr

    with pytest.raises(TypeError, match="key is a secret"):
        dump_settings(WithSecret(key=SecretStr("hunter2")))
