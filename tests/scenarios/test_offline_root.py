"""The root's key is in no database: intermediates are signed where its file is."""

import sqlite3
from pathlib import Path
from typing import Any

from lab.addresses import TLS_PORT, place
from lab.perimeter import DOMAIN, Perimeter
from lab.processes import finish, script

PASSPHRASE = "seven words nobody would ever guess"


async def command(*arguments: str, passphrase: str = PASSPHRASE) -> Any:
    return await finish([script("gloam-controller"), *arguments], text=f"{passphrase}\n")


def wrong(finished: Any, *words: str) -> None:
    """One line that says what is wrong, and nothing else."""
    assert finished.code == 1, finished
    assert len(finished.err.splitlines()) == 1, finished.err
    for word in words:
        assert word in finished.err


async def test_intermediates_are_signed_by_a_root_that_is_kept_offline(tmp_path: Path) -> None:
    async with Perimeter(admin_here=True) as perimeter:
        root, address = tmp_path / "root.age", perimeter.controller_address
        init = (
            "init", "--state", str(perimeter.controller_state), "--domain", DOMAIN, "--passphrase-stdin",
            "--listen", place(address, TLS_PORT), "--knock", place(address, 62201), "--root-out", str(root),
        )  # fmt: skip
        wrong(await command(*init, passphrase="short"), "fewer than 12")
        assert not root.exists()
        made = await command(*init)
        assert made.code == 0, made.err
        assert root.stat().st_mode & 0o777 == 0o600
        with sqlite3.connect(perimeter.controller_state / "gloam.db") as db:
            assert db.execute("SELECT sealed_key FROM authority WHERE purpose = 'root'").fetchall() == [(None,)]
        db.close()
        again = (*init[:2], str(tmp_path / "another"), *init[3:])
        wrong(await command(*again), "exists already")
        assert not (tmp_path / "another").exists()

        await perimeter.start_controller()
        shown = await perimeter.admin_json("ca", "show")
        assert shown["root"]["key"] == "offline"
        refused = await perimeter.admin("ca", "rotate", "devices")
        wrong(refused, "kept offline", "ca request devices")

        request, signed = tmp_path / "devices.request", tmp_path / "devices.pem"
        await perimeter.admin_json("ca", "request", "devices", "--out", str(request))
        sign = ("ca", "sign", "--passphrase-stdin", "--root", str(root), "--out", str(signed), "--request")
        wrong(await command(*sign, str(request), passphrase="another one altogether"), "does not open")
        wrong(await command(*sign, str(root)), "no request")
        cut = tmp_path / "cut.age"
        cut.write_bytes(root.read_bytes()[:-1])
        wrong(await command(*sign[:4], str(cut), *sign[5:], str(request)), "cut short or changed")
        other = tmp_path / "other.request"
        other.write_text(request.read_text().replace(shown["root"]["sha256"], "0" * 64))
        wrong(await command(*sign, str(other)), "another root")
        assert not signed.exists()
        done = await command(*sign, str(request))
        assert done.code == 0, done.err

        wrong(await perimeter.admin("ca", "install", str(request)), "no certificate")
        installed = await perimeter.admin_json("ca", "install", str(signed))
        assert (installed["purpose"], installed["standing"]) == ("devices", "issuing")
        wrong(await perimeter.admin("ca", "install", str(signed)), "waits for this certificate")
        await perimeter.add_user("alice")
        await perimeter.add_client("alice")  # certified by what was signed offline, and believed
        shown = await perimeter.admin_json("ca", "show")
        hangs = {each["standing"]: each["hangs"] for each in shown["intermediates"] if each["purpose"] == "devices"}
        assert hangs == {"retiring": 0, "issuing": 1}
