"""Calls of libc that fail in any step: one clean run later all is as if nothing had happened.

With TOMOPIPE_TEST_FAULTS, minutes to spend, far more of them (`make faults`); seeds are printed.
"""

import math
import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest

from tests.faults.harness import ACTIONS, Bench, Point, difference, tree

MINUTES = float(os.environ.get("TOMOPIPE_TEST_FAULTS", "0"))
N_KILLS = 40 if MINUTES else 2
RULES = [
    *("inventory", "try_recon", "predict_cor", "fix_cor", "resolve_cor", "sidecar", "full_recon"),
    *("stitch", "export_stack", "export_star", "report"),
]
N_CALLS = 12  # of each script, in CI


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    if shutil.which("gcc") is None and "CI" not in os.environ:
        pytest.skip("needs gcc, for the calls that fail")
    made = Bench(tmp_path_factory.mktemp("f"))
    yield made
    # scripts had links to the finished results: whoever writes into a file changes them
    assert difference(tree(made.finished, made.campaign), made.target) == []


@pytest.fixture(scope="module")
def seed() -> int:
    """One of its own for each `make faults`; the same in each `make test`."""
    return int(os.environ.get("TOMOPIPE_TEST_SEED", time.time_ns() % 1_000_000 if MINUTES else 1))


def test_all_rules_are_broken(bench):
    assert bench.rules() == sorted(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_each_call_of_a_script(bench, rule):
    """In CI some calls, evenly spread, fail in one of the three ways each."""
    n_calls = bench.n_calls(rule)
    assert n_calls > 10
    failures = {}
    step = 1 if MINUTES else math.ceil(n_calls / N_CALLS)
    for n, number in enumerate(range(1, n_calls + 1, step)):
        for action in ACTIONS if MINUTES else [ACTIONS[n % 3]]:
            wrong = bench.wrong_after_fault_in_script(rule, number, action, always=bool(MINUTES))
            if wrong:
                failures[number, action] = wrong
                print(rule, number, action, wrong, bench.said(), sep="\n")
    assert not failures


def points_of(bench: Bench, rule: str) -> list[Point]:
    """Points of the main process and of the job of a rule: each call of each kind on each file."""
    calls = bench.calls(*bench.outputs(rule))
    seen = Counter((call.who, call.kind, call.glob) for call in calls if call.who in (rule, "main"))
    assert any(who == rule for who, _, _ in seen)
    return [
        Point(*key, number, "") for key, n in sorted(seen.items()) for number in range(1, n + 1)
    ]


#: Process, kind of call and file of the points of runs that were tried.
KNOWN: set[tuple[str, str, str]] = set()


def is_known(point: Point) -> bool:
    return point.number > 1 or (point.who, point.kind, point.glob) in KNOWN


@pytest.mark.parametrize("rule", RULES if MINUTES else RULES[::3])  # in CI one of each kind
def test_points_of_a_run(bench, rule, seed):
    """Through Snakemake, which has files of its own, and the main process, which has the record."""
    print(f"TOMOPIPE_TEST_SEED={seed}")
    chance = random.Random(f"{seed} {rule}")
    todo = points_of(bench, rule)
    chance.shuffle(todo)
    if MINUTES:  # each file and kind of call at least once; those of the main process by one rule
        todo.sort(key=is_known)
    else:
        todo = todo[:1]
    end = time.monotonic() + 60 * MINUTES / len(RULES)
    failures = {}
    for where in todo:
        if MINUTES and is_known(where) and time.monotonic() > end:
            break
        KNOWN.add((where.who, where.kind, where.glob))
        point = replace(where, action=chance.choice(ACTIONS))
        wrong = bench.wrong_after_fault(point, *bench.outputs(rule))
        wrong = wrong or bench.work_left()
        if wrong:
            failures[point] = wrong
            print(point, wrong, bench.said(), sep="\n")
    assert not failures


def test_main_process_killed_at_any_moment(bench, seed):
    chance = random.Random(seed)
    failures = {}
    for number in range(N_KILLS):
        rule = chance.choice(RULES)
        bench.restore(*bench.outputs(rule))
        main = bench.start()
        moment_s = chance.uniform(0, 3)
        time.sleep(moment_s)
        with suppress(ProcessLookupError):  # it was faster
            os.kill(main.pid, signal.SIGKILL)
        main.wait()
        wrong = bench.wrong_after_clean_run() or bench.work_left()
        if wrong:
            failures[number, rule, moment_s] = wrong
            print(rule, moment_s, wrong, bench.said(), sep="\n")
    assert not failures


def test_two_runs_at_once(bench, seed):
    """The second is refused, or begins when the first has ended."""
    chance = random.Random(seed)
    for _ in range(5 if MINUTES else 1):
        missing = {path for rule in ("full_recon", "stitch") for path in bench.outputs(rule)}
        bench.restore(*missing)
        first = bench.start()
        time.sleep(chance.uniform(0.5, 2.5))
        second = bench.start()
        first.wait()
        second.wait()
        assert not bench.wrong_after_clean_run(), bench.said()
