"""The lock of a campaign: one run at a time; only what is proven dead is taken over by itself."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from tomopipe.errors import RunEndedError, TomopipeError
from tomopipe.storage import lock
from tomopipe.storage.processes import machine, named

ELSEWHERE = {"host": "elsewhere", "machine": "another"}
HOLD = """
import sys, time
from pathlib import Path
from tomopipe.storage import lock
lock.take(Path.cwd(), lock.new_run(Path.cwd()))
print("held", flush=True)
time.sleep(60)
"""


def put(campaign, **changed):
    """Lock a campaign with a run that differs from one of this process."""
    run = lock.new_run(campaign, **changed)
    (campaign / lock.LOCK).write_text(json.dumps(asdict(run)))
    return run


def dead_pid():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_killed_run_is_taken_over(tmp_path, holder):
    holder.kill()
    while lock.under_way(tmp_path):  # a zombie is dead
        time.sleep(0.01)
    assert lock.read(tmp_path).pid == holder.pid
    killed = lock.read(tmp_path)
    run = lock.take(tmp_path, lock.new_run(tmp_path))
    assert run.before == killed.id
    assert lock.under_way(tmp_path) == run
    (tmp_path / lock.LOCK).write_text(json.dumps(asdict(run) | {"of": "a later version"}))
    assert lock.under_way(tmp_path) == run
    lock.release(tmp_path, run)  # it has not begun: the next one ends the jobs of the killed one
    put(tmp_path, **asdict(lock.read(tmp_path)) | {"born": "1"})
    run = lock.take(tmp_path, lock.new_run(tmp_path))
    assert run.before == killed.id
    lock.hand_over(tmp_path, run, replace(run, before=""))
    lock.release(tmp_path, run)
    assert lock.read(tmp_path) is None
    assert os.listdir(tmp_path / "logs") == []


@pytest.mark.parametrize("changed", [ELSEWHERE, {"machine": machine().split()[0] + " pid:[1]"}])
def test_a_run_elsewhere_is_taken_over_when_somebody_says_so_however_old(tmp_path, changed):
    """Of another host, or of a container on this one."""
    other = put(tmp_path, pid=dead_pid(), start_s=time.time(), **changed)
    os.utime(tmp_path / lock.LOCK, (1, 1))
    run = lock.new_run(tmp_path)
    with pytest.raises(TomopipeError) as refused:
        lock.take(tmp_path, run)
    said = str(refused.value)
    assert f"on {other.host}, process {other.pid}, last sign of life" in said
    assert "type tomopipe run --take-over (" in said
    assert f"(for snakemake alone, remove {tmp_path / lock.LOCK})" in said
    assert lock.under_way(tmp_path) == other
    run = lock.take(tmp_path, run, take_over=True)
    assert run.before == other.id
    assert lock.under_way(tmp_path) == run
    assert not lock.is_held(tmp_path, other)
    with pytest.raises(RunEndedError, match=f"newer run has begun .*process {run.pid}"):
        lock.hand_over(tmp_path, other, other)
    lock.release(tmp_path, other)  # it lives after all, and ends
    assert lock.under_way(tmp_path) == run


def test_a_run_elsewhere_whose_folder_this_may_be_a_copy_of_has_its_jobs(tmp_path):
    put(tmp_path, folder="/copied/from", **ELSEWHERE)
    assert lock.take(tmp_path, lock.new_run(tmp_path), take_over=True).before == ""


def take_at_once(folder, barrier, answers):
    run = lock.new_run(folder)
    barrier.wait()
    try:
        lock.take(folder, run)
        answers.put(run.id)
    except TomopipeError as error:
        answers.put(error)
    barrier.wait()


@pytest.mark.parametrize("before", ["none", "dead", "damaged"])
def test_of_several_that_take_it_at_once_one_does(tmp_path, before):
    n = 6
    (tmp_path / "logs").mkdir()
    context = multiprocessing.get_context("fork")
    for _ in range(5):
        (tmp_path / lock.LOCK).unlink(missing_ok=True)
        if before == "dead":
            put(tmp_path, pid=dead_pid())
        elif before == "damaged":
            (tmp_path / lock.LOCK).write_text("{")
        barrier, answers = context.Barrier(n), context.Queue()
        processes = [
            context.Process(target=take_at_once, args=(tmp_path, barrier, answers))
            for _ in range(n)
        ]
        for process in processes:
            process.start()
        told = [answers.get(timeout=60) for _ in range(n)]
        for process in processes:
            process.join()
        (winner,) = [answer for answer in told if isinstance(answer, str)]
        assert lock.read(tmp_path).id == winner
        assert sum("is under way" in str(answer) for answer in told) == n - 1


def test_a_snakemake_enters_with_the_lock_that_was_taken_for_it(tmp_path, monkeypatch):
    """Whoever started it may have been killed since; then its number is named."""
    given = put(tmp_path, pid=dead_pid())
    monkeypatch.setenv(lock.VARIABLE, given.id)
    run = lock.enter(tmp_path)
    assert run == replace(given, **{name: getattr(run, name) for name in named(os.getpid())})
    assert lock.under_way(tmp_path) == run
    assert run.pid == os.getpid()
    assert lock.VARIABLE not in os.environ  # of no Snakemake that a job calls
    other = put(tmp_path)
    monkeypatch.setenv(lock.VARIABLE, run.id)
    with pytest.raises(RunEndedError, match="a newer run has begun"):
        lock.enter(tmp_path)
    assert lock.read(tmp_path) == other


def test_between_the_runs_of_a_watcher_nobody_takes_it(tmp_path):
    """Its run has ended, and the watcher has not seen that yet."""
    run = put(tmp_path, pid=dead_pid(), watcher=named(os.getpid()))
    assert lock.under_way(tmp_path) == run
    with pytest.raises(TomopipeError, match="tomopipe stop"):
        lock.take(tmp_path, lock.new_run(tmp_path), take_over=True)
    assert lock.read(tmp_path) == run


@pytest.mark.parametrize("part", ["run", "watcher", "run of a watcher"])
def test_it_shows_life_and_is_released_in_the_end(tmp_path, part):
    watcher = {"run": {}, "watcher": named(os.getpid()), "run of a watcher": named(os.getppid())}
    run = put(tmp_path, watcher=watcher[part])
    path = tmp_path / lock.LOCK
    assert lock.has_watcher(tmp_path) == (part != "run")
    with lock.held(tmp_path, run, beat_s=0.01):
        os.utime(path, (1, 1))
        while path.stat().st_mtime == 1:
            time.sleep(0.01)
    assert path.exists() == (part == "run of a watcher")


def test_a_watcher_that_is_dead_watches_no_more_though_its_run_goes_on(tmp_path):
    run = put(tmp_path, watcher=named(os.getpid()) | {"born": "1"})
    assert lock.under_way(tmp_path) == run
    assert not lock.has_watcher(tmp_path)


def test_a_lock_is_read_by_all(tmp_path):
    before = os.umask(0o077)
    try:
        lock.take(tmp_path, run := lock.new_run(tmp_path))
        lock.hand_over(tmp_path, run, run)
    finally:
        os.umask(before)
    assert (tmp_path / lock.LOCK).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "changed",
    [
        *({"pid": value} for value in ("1", None, 0, -1)),
        *({"watcher": value} for value in ([1], {"pid": "1"}, {"pid": -1})),
        *({"start_s": "yesterday"}, {"events": 5}, {"id": ["a"]}),
    ],
)
def test_a_lock_with_values_of_other_types_is_none(tmp_path, changed):
    run = put(tmp_path)
    assert lock.read(tmp_path) == run
    (tmp_path / lock.LOCK).write_text(json.dumps(asdict(run) | changed))
    assert lock.read(tmp_path) is None
