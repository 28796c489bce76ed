"""Processes that live, have ended, or wait to be taken note of."""

import os
import subprocess
import sys

import pytest

from tomopipe.storage import run_folder
from tomopipe.storage.processes import born, is_alive


@pytest.fixture
def zombie():
    """A process that has ended, and for which nobody waits: it keeps its number."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_this_process_lives():
    assert is_alive(os.getpid())
    assert born(os.getpid()) == born(os.getpid()) != ""


def test_an_ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not is_alive(process.pid)
    assert born(process.pid) == ""


def test_an_ended_process_that_nobody_waits_for(zombie):
    os.kill(zombie, 0)  # which raises no error
    assert not is_alive(zombie)
    assert born(zombie) == ""


def test_a_number_that_belongs_to_another_user():
    assert is_alive(1)


def begun_by(monkeypatch, results, pid):
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: pid)
        run_folder.begin(results)


def test_a_run_whose_process_ended_was_killed_also_if_nobody_waits_for_it(
    tmp_path, monkeypatch, zombie
):
    begun_by(monkeypatch, tmp_path, zombie)
    assert run_folder.killed_here(tmp_path, 0)
    run_folder.begin(tmp_path)
    assert not run_folder.killed_here(tmp_path, 0)


def test_a_run_whose_number_is_another_process_by_now_was_killed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "born", lambda pid: "1")
        begun_by(monkeypatch, tmp_path, os.getpid())
    assert run_folder.killed_here(tmp_path, 0)
