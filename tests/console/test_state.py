import os
from pathlib import Path

import platformdirs
import pytest

from console.errors import CommandError
from console.state import LOCK, only_one, state_directory

HOME = Path(platformdirs.user_data_path("gloam"))


@pytest.mark.parametrize(
    ("option", "role", "environ", "superuser", "expected"),
    [
        (Path("/srv/gw"), "gateway", {"GLOAM_STATE": "/other"}, True, Path("/srv/gw")),
        (Path("here"), "gateway", {}, False, Path.cwd() / "here"),
        (Path("~/gw"), "gateway", {}, False, Path.home() / "gw"),
        (None, "gateway", {"GLOAM_STATE": "/other"}, True, Path("/other")),
        (None, "client", {"GLOAM_STATE": "/other"}, False, Path("/other")),
        (None, "gateway", {"GLOAM_STATE": ""}, True, Path("/var/lib/gloam/gateway")),
        (None, "controller", {}, True, Path("/var/lib/gloam/controller")),
        (None, "controller", {}, False, HOME / "controller"),
        (None, "client", {}, True, HOME / "client"),
        (None, "client", {}, False, HOME / "client"),
    ],
)
def test_where_a_role_keeps_its_state(
    option: Path | None, role: str, environ: dict[str, str], expected: Path, *, superuser: bool
) -> None:
    assert state_directory(option, role, environ, superuser=superuser) == expected


def test_the_process_knows_whether_it_is_root() -> None:
    expected = Path("/var/lib/gloam/gateway") if os.geteuid() == 0 else HOME / "gateway"
    assert state_directory(None, "gateway", {}) == expected


def test_one_process_of_a_role_on_a_state_directory(tmp_path: Path) -> None:
    with only_one(tmp_path, "gateway"):
        with pytest.raises(CommandError, match=f"a gateway runs on {tmp_path} already"), only_one(tmp_path, "gateway"):
            pass
        assert (tmp_path / LOCK).stat().st_mode & 0o777 == 0o600
    with only_one(tmp_path, "gateway"):  # the lock went with its holder
        pass


def test_a_directory_that_cannot_be_locked(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be used"), only_one(tmp_path / "nowhere", "gateway"):
        pass
