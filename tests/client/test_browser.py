"""Which browser is opened, and when none is."""

import os
from pathlib import Path

import pytest

from client.browser import open_browser


def test_a_terminal_without_a_display_keeps_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert not open_browser("http://localhost:1/")


def test_what_the_environment_names_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    opener, opened = tmp_path / "browser", tmp_path / "opened"
    os.mkfifo(opened)
    opener.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    opener.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{opener} %s")
    monkeypatch.setattr("webbrowser._tryorder", None)  # it reads the environment once
    assert open_browser("http://localhost:1/")
    assert opened.read_text() == "http://localhost:1/\n"
