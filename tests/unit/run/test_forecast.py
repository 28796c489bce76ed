"""The time that a run takes: pretended clocks, plans and records of jobs."""

import json
import os
import time

import pytest

from tomopipe.campaign.files import Logs
from tomopipe.run.forecast import Forecast, duration, forecast, planned_s
from tomopipe.run.progress import Progress, Step, write

BEGAN_S = 1.0e9


class Run:
    """A run of which the clock, the plan and the jobs are pretended."""

    def __init__(self, folder, *, cores=2, start_s=0.0, **facts):
        self.events, self.logs, self.n = folder / "events", Logs(folder), 0
        self.tell(0, executes=True, cores=cores, start_s=start_s, **facts)

    def tell(self, at_s, **event):
        write(self.events, at=BEGAN_S + at_s, **event)

    def plan(self, at_s=0.0, about=(), **steps):
        self.tell(at_s, planned=steps, about=about)

    def job(self, step, name, begun_s, wall_s=None, cpu_s=None, threads=1):
        """Begin a job; with `wall_s` it ends after that time, with that CPU time."""
        self.n += 1
        self.tell(begun_s, began=self.n, step=step, name=name, reason="", threads=threads)
        if wall_s is None:
            return
        path = self.logs.status(step, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        status = {"state": "done", "start": BEGAN_S + begun_s, "end": BEGAN_S + begun_s + wall_s}
        path.write_text(json.dumps(status | ({} if cpu_s is None else {"cpu_s": cpu_s})))
        self.tell(begun_s + wall_s, ended=self.n)

    def at(self, now_s):
        progress = Progress(self.events, self.logs)
        progress.read()
        return forecast(progress, BEGAN_S + now_s)


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def sweeps(n, seconds=10.0, threads=1):
    return {f"a_{number}": (seconds, threads) for number in range(n)}


def test_before_a_job_is_finished_the_time_is_that_of_the_plan(run):
    run.plan(try_recon=sweeps(8), full_recon=sweeps(4, 20.0, threads=2), about=["full_recon"])
    run.job("try_recon", "a_0", 0)
    run.job("try_recon", "a_1", 0)
    times = run.at(5)
    # 8 sweeps of 10 s on two cores, 5 s of which are over; then volumes one after the other
    assert (times.planned_s, times.left_s) == (80 / 2 + 80 / 2, 75)
    assert (times.is_plan, times.elapsed_s) == (True, 5)
    end = time.strftime("%H:%M", time.localtime(time.time() + 75))
    assert times.sentence == f"5 s so far, about 75 s left, 80 s in total, end {end} (plan)"


def test_finished_jobs_replace_the_plan_pixel_for_pixel(run):
    # volumes of 10 and 40 s as planned took half of that: so will the others
    plan = sweeps(2) | {"b_1": (10.0, 1), "b_2": (40.0, 1), "b_3": (200.0, 1), "b_4": (100.0, 1)}
    run.plan(full_recon=plan)
    for name in ("a_0", "a_1"):
        run.job("full_recon", name, 0, 35, cpu_s=35)  # they compiled: nothing follows from them
    run.job("full_recon", "b_1", 35, 5, cpu_s=5)
    run.job("full_recon", "b_2", 35, 20, cpu_s=20)
    times = run.at(55)
    assert times.left_s == pytest.approx((200 + 100) * 0.5 / 2)
    assert (times.is_plan, times.slower, times.elapsed_s) == (False, None, 55)
    assert "plan" not in times.sentence


def test_a_long_first_job_counts_as_compiling_is_a_small_part_of_it(run):
    run.plan(full_recon=sweeps(4, 600.0))
    for name in ("a_0", "a_1"):
        run.job("full_recon", name, 0, 1200, cpu_s=1200)
    assert run.at(1200).left_s == pytest.approx(2 * 1200 / 2)


def test_a_busy_machine_is_named_and_its_time_is_that_of_the_clock(run):
    run.plan(try_recon=sweeps(42, 8.0))
    run.job("try_recon", "a_0", 0, 60, cpu_s=30)  # it also compiled
    for number in range(1, 12):
        run.job("try_recon", f"a_{number}", 60 * number, 56, cpu_s=8)
    times = run.at(720)
    assert times.slower == pytest.approx(7)
    assert times.remark == "the machine is busy: 7 times slower than planned"
    assert times.left_s == pytest.approx(30 * 56 / 2)


def test_the_first_jobs_compile_and_yet_tell_how_busy_the_machine_is(run):
    run.plan(predict_cor=sweeps(8, 5.0))
    for name in ("a_0", "a_1"):
        run.job("predict_cor", name, 0, 160, cpu_s=40)
    times = run.at(160)
    assert (times.is_plan, times.slower) == (True, pytest.approx(4))
    assert times.left_s == pytest.approx(6 * 5 * 4 / 2)


def test_a_line_fits_into_80_columns():
    times = Forecast(5300.0, 5300.0, 5300.0)
    assert len(times.sentence) <= 66  # and 13 for the name


def test_a_plan_that_was_wrong_is_no_busy_machine(run):
    run.plan(predict_cor=sweeps(12))
    for number in range(4):
        run.job("predict_cor", f"a_{number}", 50 * number, 50, cpu_s=48)
    times = run.at(200)
    assert (times.slower, times.remark) == (None, "")
    assert times.left_s == pytest.approx(8 * 50 / 2, rel=0.01)


def test_the_load_counts_as_it_is_now(run):
    run.plan(try_recon=sweeps(40))
    for number in range(10):  # busy
        run.job("try_recon", f"a_{number}", 100 * number, 100, cpu_s=10)
    assert run.at(1000).slower == pytest.approx(10)
    for number in range(10, 20):  # and free again
        run.job("try_recon", f"a_{number}", 1000 + 10 * number, 10, cpu_s=10)
    times = run.at(1200)
    assert (times.slower, times.left_s) == (None, pytest.approx(20 * 10 / 2))


def test_the_time_left_grows_while_jobs_do_not_end(run):
    run.plan(try_recon=sweeps(20))
    for number in range(4):
        run.job("try_recon", f"a_{number}", 10 * number, 10, cpu_s=10)
    for name in ("a_4", "a_5"):
        run.job("try_recon", name, 40)
    assert run.at(40).left_s == pytest.approx(16 * 10 / 2)
    early, late = run.at(100), run.at(240)
    assert 16 * 10 / 2 < early.left_s < late.left_s
    assert late.slower > 3


def test_the_first_job_of_a_step_that_is_late_is_mentioned_and_its_time_grows(run):
    run.plan(fix_cor={"a": (2.0, 1)}, full_recon=sweeps(1, 4.0))
    run.job("fix_cor", "a", 0, 2, cpu_s=2.0)
    run.job("full_recon", "a_0", 2)
    early, late = run.at(4), run.at(86)
    assert (early.left_s, early.remark) == (pytest.approx(2), "")
    # 80 s late: half as long again
    assert (late.left_s, late.is_plan) == (pytest.approx(40), True)
    assert late.remark == "first jobs are late: they compile, or the machine is busy"


def test_a_plan_that_is_long_over_is_not_repeated(run):
    run.plan(try_recon=sweeps(8, 16.0))
    run.job("try_recon", "a_0", 0)
    assert run.at(60).left_s is not None
    times = run.at(480)
    assert (times.left_s, times.sentence) == (None, "8.0 min so far, planned 64 s")


def test_volumes_take_cores_and_the_last_ones_do_not_use_them_all(tmp_path):
    run = Run(tmp_path, cores=16)
    run.plan(full_recon=sweeps(2, 32.0, threads=8))
    assert run.at(0).left_s == pytest.approx(2 * 32 / 16)
    run.plan(full_recon=sweeps(1, 32.0, threads=4), report={"campaign": (2.0, 1)})
    assert Run.at(run, 0).left_s == pytest.approx((32 + 32) / 12 + 2)


def test_the_start_of_a_job_counts_as_in_the_plan(tmp_path):
    run = Run(tmp_path, start_s=2.0)
    run.plan(try_recon=sweeps(6, 3.0))
    for number in range(4):  # on cores that others use for most of the time, but no more
        run.job("try_recon", f"a_{number}", 8 * number, 8, cpu_s=1.0)
    times = run.at(32)
    assert (times.left_s, times.slower) == (pytest.approx(2 * 8 / 2), None)


def test_a_job_on_two_cores_takes_both(run):
    run.plan(try_recon=sweeps(6, 10.0, threads=2))
    for number in range(4):
        run.job("try_recon", f"a_{number}", 10 * number, 10, cpu_s=10, threads=2)
    assert run.at(40).left_s == pytest.approx(2 * 10)


def test_steps_are_listed_from_the_start_and_follow_the_tables(run):
    first = {step: sweeps(3, None) for step in ("try_recon", "full_recon")}
    run.plan(inventory={"campaign": (2.0, 1)}, report={}, **first, about=[*first, "report"])
    progress = Progress(run.events, run.logs)
    progress.read()
    shown = {name: (step.total, step.is_about) for name, step in progress.steps.items()}
    assert shown == {
        "inventory": (1, False),
        "try_recon": (3, True),
        "full_recon": (3, True),
        "report": (0, True),
    }
    assert run.at(3).sentence == "3 s so far, time left: known once the scans are read"
    run.job("inventory", "", 0, 4)
    run.plan(5, try_recon=sweeps(2), full_recon=sweeps(2), about=["full_recon", "report"])
    progress.read()
    shown = {name: (step.total, step.is_about) for name, step in progress.steps.items()}
    assert (shown["try_recon"], shown["full_recon"]) == ((2, False), (2, True))
    for name in ("a_0", "a_1"):
        run.job("try_recon", name, 5, 10, cpu_s=10)
    run.plan(15, full_recon=sweeps(1))  # the COR of the other one has not changed
    progress.read()
    assert {name: (step.done, step.total) for name, step in progress.steps.items()} == {
        "inventory": (1, 1),
        "try_recon": (2, 2),
        "full_recon": (0, 1),
    }
    assert run.at(15).left_s == pytest.approx(10)


def test_on_a_cluster_the_cores_are_those_of_running_jobs(tmp_path):
    run = Run(tmp_path, cores=0, remote=True)
    run.plan(full_recon=sweeps(6, 40.0))
    for name in ("a_0", "a_1"):
        run.job("full_recon", name, 0)
    queued = run.at(30)
    assert (queued.left_s, queued.sentence) == (
        None,
        "30 s so far, time left: known once jobs have left the queue",
    )
    for name in ("a_0", "a_1"):
        path = run.logs.status("full_recon", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"state": "running", "start": BEGAN_S + 30}))
    assert run.at(30).left_s == pytest.approx(6 * 40 / 2)


def test_a_run_without_a_plan_says_nothing_before_jobs_are_done(run):
    run.tell(0, totals={"try_recon": 9})
    assert run.at(1).sentence == "1 s so far, time left: known once jobs are done"
    for number in range(3):
        run.job("try_recon", f"a_{number}", 10 * number, 10, cpu_s=10)
    assert run.at(30).left_s == pytest.approx(6 * 10 / 2)


def test_without_a_plan_jobs_that_follow_the_inventory_are_not_all_known(run):
    run.job("inventory", "", 0, 1.0)
    run.job("try_recon", "a_1", 1, 10.0, 10.0)
    run.job("try_recon", "a_2", 11)
    assert run.at(12).why == "time left: not known for these targets"


def test_a_plan_without_a_run_takes_as_long():
    stated = {"try_recon": sweeps(8), "full_recon": sweeps(4, 20.0, threads=2)}
    assert planned_s({name: Step(planned=jobs) for name, jobs in stated.items()}, 2) == 80


def test_without_jobs_there_is_no_time(run):
    assert run.at(9) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (12.3, "12 s"),
        (89, "89 s"),
        (210, "3.5 min"),
        (720, "12 min"),
        (7560, "2.1 h"),
        (9e5, "250 h"),
    ],
)
def test_durations_have_two_figures(seconds, text):
    assert duration(seconds) == text


def test_while_scans_are_read_the_log_of_the_inventory_tells_how_far_it_is(run):
    run.plan(inventory={"campaign": (2.0, 1)}, try_recon=sweeps(3, None))
    run.job("inventory", "", 0)
    log = run.logs.log("inventory")
    log.parent.mkdir(parents=True)
    log.write_text("reading\n10:00:05 50 of 300 scans read\n10:00:10 100 of 300 scans read\n")
    os.utime(log, (BEGAN_S + 10, BEGAN_S + 10))  # 100 scans in 10 s
    assert run.at(11).sentence == (
        "11 s so far, 100 of 300 scans read, about 20 s for the others; then the time left"
    )
    os.utime(log, (BEGAN_S - 10, BEGAN_S - 10))  # that of an earlier run
    assert run.at(3).sentence == "3 s so far, time left: known once the scans are read"
