"""Ctrl-C before a command's own code runs: 130, and not a word."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from console.start import INTERRUPTED

ROOT = Path(__file__).parent.parent.parent
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
SLOW = """
import signal
print("loading", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_console_script_loads_nothing_before_it_heeds_ctrl_c(name: str) -> None:
    module = SCRIPTS[name].partition(":")[0]
    code = f"import sys, {module}; print(*sorted({{each.partition('.')[0] for each in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split()) - set(sys.stdlib_module_names)
    assert not {"typer", "rich", "pydantic", "cryptography", "structlog"} & loaded
    assert module.partition(".")[0] in loaded


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_while_loading_ends_it_quietly(tmp_path: Path, ignored: bool) -> None:  # noqa: FBT001 - a table
    (tmp_path / "slow.py").write_text(SLOW)
    before = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " if ignored else ""
    code = f"{before}import sys; sys.path.insert(0, {str(tmp_path)!r}); from console.start import start; start('slow')"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    if ignored:
        process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (-signal.SIGTERM if ignored else INTERRUPTED, "")
