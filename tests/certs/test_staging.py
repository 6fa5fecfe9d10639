"""Files that change together: wherever a process is killed, what is there afterwards is all old or all new."""

from pathlib import Path

import pytest

from certs.staging import Staging

NAMES = ("trust", "secret", "key", "chain")


def directory(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    for name in (*NAMES, "other"):
        (made / name).write_text("old")
    return made


def held(path: Path) -> set[str]:
    return {(path / name).read_text() for name in NAMES}


def write(path: Path, *, upto: int = len(NAMES)) -> None:
    for name in NAMES[:upto]:
        (path / name).write_text("new")


def test_a_change_is_whole(tmp_path: Path) -> None:
    path = directory(tmp_path)
    staging = Staging(path, "renewal", NAMES)
    write(staging.begin())
    assert held(path) == {"old"}
    staging.commit()
    assert held(path) == {"new"}
    assert (path / "other").read_text() == "old"
    assert sorted(each.name for each in path.iterdir()) == sorted((*NAMES, "other"))


@pytest.mark.parametrize("written", range(len(NAMES) + 1))
def test_killed_before_the_moment_of_change_nothing_has_changed(tmp_path: Path, written: int) -> None:
    path = directory(tmp_path)
    write(Staging(path, "renewal", NAMES).begin(), upto=written)
    again = Staging(path, "renewal", NAMES)
    assert not again.pending
    again.finish()
    assert held(path) == {"old"}
    write(again.begin())
    again.commit()
    assert held(path) == {"new"}


@pytest.mark.parametrize("moved", range(len(NAMES) + 1))
def test_killed_after_it_the_next_finishes(tmp_path: Path, moved: int) -> None:
    path = directory(tmp_path)
    write(Staging(path, "renewal", NAMES).begin())
    (path / "renewal.new").rename(path / "renewal")
    for name in NAMES[:moved]:
        (path / "renewal" / name).replace(path / name)
    again = Staging(path, "renewal", NAMES)
    assert again.pending
    again.finish()
    assert held(path) == {"new"}
    assert not again.pending


def test_what_is_not_written_stays(tmp_path: Path) -> None:
    path = directory(tmp_path)
    staging = Staging(path, "renewal", NAMES)
    write(staging.begin(), upto=2)
    staging.commit()
    assert [(path / name).read_text() for name in NAMES] == ["new", "new", "old", "old"]


def test_a_change_that_was_made_counts_before_the_next_begins(tmp_path: Path) -> None:
    path = directory(tmp_path)
    (path / "renewal").mkdir()
    write(path / "renewal")
    Staging(path, "renewal", NAMES).begin()
    assert held(path) == {"new"}
