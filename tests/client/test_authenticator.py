"""`client/authenticator.py`: what a person scans is what the controller said, and nobody else reads it."""

import io
import stat
from pathlib import Path

import pytest
import zxingcpp
from PIL import Image

from client.authenticator import show_authenticator
from console.errors import CommandError
from console.output import Output

URI = "otpauth://totp/gloam%20example.test:ada?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=gloam%20example.test"


def test_the_picture_is_read_by_a_real_reader_and_only_its_owner_has_it(tmp_path: Path) -> None:
    said = io.StringIO()
    show_authenticator(URI, Output(file=said), tmp_path / "new.png")
    with Image.open(tmp_path / "new.png") as image:
        [read] = zxingcpp.read_barcodes(image)
    assert read.text == URI
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o600
    assert URI in said.getvalue()


@pytest.mark.parametrize("case", ["there already", "a link", "no directory"])
def test_a_picture_never_goes_where_something_is(tmp_path: Path, case: str) -> None:
    target = tmp_path / "new.png"
    match case:
        case "there already":
            target.write_text("mine")
        case "a link":
            target.symlink_to(tmp_path / "elsewhere")
        case "no directory":
            target = tmp_path / "none" / "new.png"
    with pytest.raises(CommandError) as refused:
        show_authenticator(URI, Output(file=io.StringIO()), target)
    assert "name a file" in refused.value.fix
    assert URI not in str(refused.value)
    assert not (tmp_path / "elsewhere").exists()
    assert case != "there already" or target.read_text() == "mine"


def test_a_terminal_gets_it_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    show_authenticator(URI, Output(file=io.StringIO()), None)
    assert "\u2580" in capsys.readouterr().out
