"""What this user may not write is named with the command that changes it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rights import HEEDING
from tomopipe.storage.rights import giving_rights, is_protected, why_not_replaced


def asked(what, *paths):
    """Ask a process that heeds modes: something of each path."""
    code = f"from tomopipe.storage.rights import *; print(*map({what}, {list(map(str, paths))}))"
    done = subprocess.run(
        [*HEEDING, sys.executable, "-c", code],
        check=True, text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip
    return done.stdout.strip()


def why(path):
    return asked("why_not_replaced", path)


@pytest.mark.slow
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_write_protected_result_is_not_replaced(tmp_path, is_folder):
    path = tmp_path / "a b_rec"
    path.mkdir() if is_folder else path.touch()
    assert why(path) == why_not_replaced(path) == ""
    path.chmod(0o555)
    assert why(path) == (
        f"{path}: is write-protected, so it stays as it is. To have it made again: "
        f"`chmod u+rwX '{path}'`"
    )


@pytest.mark.slow
def test_a_result_of_a_closed_folder_cannot_be_made(tmp_path):
    path = tmp_path / "scan" / "rows.h5"
    path.parent.mkdir()
    path.parent.chmod(0o555)
    says = f"{path.parent}: cannot be written; for {path}: `chmod u+rwX {path.parent}`"
    assert why(path) == says
    path.parent.chmod(0o755)
    assert why(path) == why(path.parent / "new" / "rows.h5") == ""


@pytest.mark.slow
def test_links_are_replaced_whatever_they_lead_to(tmp_path):
    (tmp_path / "a").touch(0o444)
    (tmp_path / "link").symlink_to("a")
    paths = [tmp_path / name for name in ("a", "link", "none")]
    assert asked("is_protected", *paths) == "True False False"


@pytest.fixture
def somebody_else(monkeypatch):
    """Be another user than the owner of the files."""
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)


@pytest.mark.parametrize(
    ("mode", "of_folder", "is_kept"),
    [(0o644, 0o775, False), (0o444, 0o775, True), (0o644, 0o555, True), (0o644, 0o1775, True)],
    ids=["plain", "protected", "in a closed folder", "in a sticky folder"],
)
def test_a_file_of_somebody_else_is_replaced_by_who_may(
    tmp_path, monkeypatch, somebody_else, mode, of_folder, is_kept
):
    path = tmp_path / "results" / "rows.h5"
    path.parent.mkdir()
    path.touch(mode)
    path.parent.chmod(of_folder)
    may = {path: False, path.parent: bool(of_folder & 0o020)}
    monkeypatch.setattr(os, "access", lambda path, _: may[Path(path)])
    assert is_protected(path) is is_kept
    path.parent.chmod(0o755)


def test_what_is_of_a_closed_disk(tmp_path):
    assert giving_rights([tmp_path]) == "ask who looks after the disk for the right to"


def test_what_is_of_somebody_else(tmp_path, monkeypatch, somebody_else):
    monkeypatch.setenv("LOGNAME", "ann")
    assert giving_rights([tmp_path]) == f"`sudo chown -R ann {tmp_path}`"
