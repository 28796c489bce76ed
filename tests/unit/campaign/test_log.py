"""The log and the status file of a job: start, heartbeat, end."""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.waiting import until
from tomopipe.campaign import log
from tomopipe.errors import NoRoomError, PixelsError, ScanError, TomopipeError
from tomopipe.storage import run_folder as runs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "try_recon" / "scan.1.log"


@pytest.fixture
def quick(monkeypatch):
    """The heart beats often."""
    monkeypatch.setattr(log, "HEARTBEAT_S", 0.01)


def status_of(path):
    return json.loads(log.status_path(path).read_text())


def test_a_job_leaves_start_and_end(path):
    before = time.time()
    with log.job(path):
        inside = status_of(path)
        logging.getLogger("tomopipe.test").info("half of it")
    done = status_of(path)
    assert (inside["state"], done["state"]) == ("running", "done")
    assert "end" not in inside
    assert before <= inside["start"] == inside["heartbeat"] <= done["end"] <= time.time()
    assert (done["step"], done["key"], done["pid"]) == ("try_recon", "scan.1", os.getpid())
    assert "half of it" in path.read_text()


def test_a_job_that_is_done_leaves_its_cpu_time(path):
    began_s = time.process_time()
    with log.job(path):
        while time.process_time() - began_s < 0.2:
            pass
    spent_s = time.process_time() - began_s
    assert 0.18 <= log.read_job(log.status_path(path)).cpu_s <= spent_s + 0.02  # in steps of 0.01 s


def test_a_failure_is_told_on_one_line(path):
    with pytest.raises(ValueError, match="two"), log.job(path):
        raise ValueError("two\nlines")
    failed = status_of(path)
    assert (failed["state"], failed["error"]) == ("failed", "ValueError: two lines")
    assert failed["end"] >= failed["start"]
    assert "ValueError: two" in path.read_text()


def test_a_job_that_ends_with_a_message_leaves_no_traceback_beside_it(path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    for error, has_traceback in ((ScanError("raw/a.h5: NaN"), False), (ValueError("x"), True)):
        with suppress(type(error)), log.job(path):
            raise error
        capsys.readouterr()
        sys.excepthook(type(error), error, error.__traceback__)
        assert ("Traceback" in capsys.readouterr().err) == has_traceback


def test_a_log_that_cannot_be_written_fails_the_job_which_was_not_killed(path):
    path.mkdir(parents=True)
    with pytest.raises(IsADirectoryError), log.job(path):
        pass
    assert status_of(path)["state"] == "failed"


@pytest.mark.parametrize("end", [None, KeyboardInterrupt])
def test_the_heart_beats_while_the_job_runs_and_never_after(path, quick, end):
    with suppress(KeyboardInterrupt), log.job(path):
        first = status_of(path)["heartbeat"]
        until(lambda: status_of(path)["heartbeat"] > first)
        assert status_of(path)["state"] == "running"
        if end:
            raise end
    left = log.status_path(path).read_bytes()
    time.sleep(0.1)
    assert log.status_path(path).read_bytes() == left
    assert end or json.loads(left)["state"] == "done"


def test_a_heartbeat_that_cannot_be_written_does_not_end_the_job(path, quick):
    folder = log.status_path(path).parent
    with log.job(path):
        folder.rename(aside := folder.with_name("aside"))
        folder.touch()
        time.sleep(0.1)
        folder.unlink()
        aside.rename(folder)
    assert status_of(path)["state"] == "done"


def test_a_full_disk_leaves_no_half_status(path, monkeypatch):
    def half(temporary, text, encoding):
        temporary.write_bytes(text[:9].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(NoRoomError), log.job(path):
        pass
    assert not list(log.status_path(path).parent.iterdir())


def test_a_killed_job_leaves_a_start_and_a_last_heartbeat(path):
    code = (
        "import os, signal, sys; from tomopipe.campaign import log\n"
        "with log.job(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, path], check=False).returncode < 0
    left = status_of(path)
    assert left["state"] == "running"
    assert left["heartbeat"] >= left["start"]
    assert "end" not in left


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The folder of a run that this process belongs to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(Path("results"))))


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (ScanError("every value is 0.0: expected counts"), True),
        (PixelsError("raw/a.h5: frames 3 to 4 cannot be read"), True),
        (TomopipeError("a_rec.h5: write-protected"), True),
        (ScanError("raw/a.h5: no such file"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (MemoryError(), False),
    ],
)
def test_a_job_that_failed_on_its_data_computes_nothing_when_tried_again(
    path, run, error, is_final
):
    if "no such file" in str(error):
        error.__cause__ = FileNotFoundError()
    n_computed = 0
    for _ in range(2):
        with pytest.raises(type(error)) as found, log.job(path):  # noqa: PT012
            n_computed += 1
            raise error
        assert str(found.value) == str(error)
        assert status_of(path)["state"] == "failed"
        kind = "" if isinstance(error, TomopipeError) else f"{type(error).__name__}: "
        assert status_of(path)["error"] == f"{kind}{error}".removesuffix(": ")
    assert n_computed == (1 if is_final else 2)


def test_the_next_run_tries_a_job_again_that_failed_on_its_data(path, run, monkeypatch):
    with pytest.raises(ScanError), log.job(path):
        raise ScanError("every value is 0.0")
    monkeypatch.setenv(runs.VARIABLE, str(runs.begin(Path("results"))))
    with log.job(path):
        pass
    assert status_of(path)["state"] == "done"
