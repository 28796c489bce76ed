"""Ask every method about every scan, on all cores; what was asked before is not asked again."""

import json
import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from tomopipe.campaign.files import CENTER, PREDICTION, ROWS, SWEEP
from tomopipe.config import PredictCorBlock
from tomopipe.cor.collected_rows import write_rows
from tomopipe.errors import TomopipeError
from tomopipe.steps.predict_cor import predict_cor
from tomopipe.storage.atomic import write_json
from tomopipe.workflow_steps import STEPS
from tomopipe_lab.evaluate.answers import DECISION, Answer, append, read_answers
from tomopipe_lab.evaluate.suites import Item
from tomopipe_lab.suite import Case

ANSWERS = "answers.jsonl"
ASKED = "asked.json"

Progress = Callable[[int, int, str], None]


def ask(case: Case, methods: Sequence[str], options: Mapping[str, Any]) -> list[Answer]:
    """Let predict_cor look at one scan, once for each method.

    Parameters
    ----------
    case : Case
        The scan and its truth.
    methods : sequence of str
        Names in `tomopipe.cor_methods.COR_METHODS`, and "decision" for all configured together.
    options : mapping
        The block predict_cor of a configuration.

    Returns
    -------
    list of Answer
        One per method; a method that fails has no estimate.
    """
    answers = []
    with tempfile.TemporaryDirectory() as folder:
        rows, sweep, prediction, center = (
            Path(folder, name) for name in (ROWS, SWEEP, PREDICTION, CENTER)
        )
        write_rows(case.rows, rows)
        write_json({"cor_px": case.candidates_px.tolist()}, sweep)
        for method in methods:
            asked = dict(options) if method == DECISION else {**options, "methods": [method]}
            start = time.perf_counter()
            found = predict_cor(
                rows,
                sweep,
                prediction,
                center,
                PredictCorBlock(**asked),
                used=None,
                made_from=None,
                is_rewritten=lambda path: False,
            )
            seconds = time.perf_counter() - start
            answers.append(_answer(case, method, found, seconds))
    return answers


def _answer(case: Case, method: str, found: Mapping[str, Any], seconds: float) -> Answer:
    return Answer(
        scan=case.name,
        family=case.family,
        conditions=case.conditions,
        truth_px=case.cor_px,
        grid_px=(float(case.candidates_px[0]), float(case.candidates_px[-1])),
        method=method,
        best_cor_px=found["best_cor_px"],
        cor_px=found["cor_px"],
        confidence=float(found["confidence"]),
        verdict=found["verdict"],
        reason=found["reason"],
        seconds=round(seconds, 4),
    )


def evaluate(
    items: Sequence[Item],
    methods: Sequence[str],
    options: Mapping[str, Any],
    *,
    folder: Path | None = None,
    jobs: int = 1,
    progress: Progress = lambda done, total, name: None,
) -> list[Answer]:
    """Ask the methods about every item.

    Parameters
    ----------
    items : sequence of Simulated or Labelled
        What to look at.
    methods : sequence of str
        As for `ask`.
    options : mapping
        The block predict_cor of a configuration.
    folder : path, optional
        Keeps the answers scan by scan; those it holds already are not asked for again.
    jobs : int
        Processes, each of one thread; 1: this one, with all threads.
    progress : callable
        Told how many scans are done, of how many, and the name of the last.

    Returns
    -------
    list of Answer
        In the order of items and methods.

    Raises
    ------
    TomopipeError
        If the folder's answers are of other options or of another revision of predict_cor.
    """
    known = {} if folder is None else _resume(folder, options)
    done = {item.name: known.get(item.name, {}) for item in items}
    open_ = [item for item in items if any(method not in done[item.name] for method in methods)]
    n_done = len(items) - len(open_)
    progress(n_done, len(items), "")
    for answers in _work(open_, done, methods, options, jobs):
        if folder is not None:
            append(answers, folder / ANSWERS)
        name = answers[0].scan
        done[name] |= {answer.method: answer for answer in answers}
        n_done += 1
        progress(n_done, len(items), name)
    return [done[item.name][method] for item in items for method in methods]


def _resume(folder: Path, options: Mapping[str, Any]) -> dict[str, dict[str, Answer]]:
    """Read the answers of a folder, or begin it; say if they are not of this question."""
    asked = {"options": dict(options), "revision": STEPS["predict_cor"].revision}
    path = folder / ASKED
    if path.is_file():
        before = json.loads(path.read_text("utf-8"))
        if before != asked:
            raise TomopipeError(
                f"{path}: expected answers to {json.dumps(asked, sort_keys=True)}; got "
                f"{json.dumps(before, sort_keys=True)}. Choose a new folder or delete this one."
            )
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(asked, path)
    answers = read_answers(folder / ANSWERS)
    _cut_torn_line(folder / ANSWERS)
    known: dict[str, dict[str, Answer]] = {}
    for answer in answers:
        known.setdefault(answer.scan, {})[answer.method] = answer
    return known


def _cut_torn_line(path: Path) -> None:
    """Remove a last line without an end, so that the next one does not follow it."""
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))


def _work(
    items: Sequence[Item],
    done: Mapping[str, Mapping[str, Answer]],
    methods: Sequence[str],
    options: Mapping[str, Any],
    jobs: int,
) -> Iterator[list[Answer]]:
    """Yield the answers about each item that has some missing, in the order they come."""
    tasks = [
        (item, [method for method in methods if method not in done[item.name]], dict(options))
        for item in items
    ]
    if jobs == 1 or len(tasks) < 2:
        yield from (_ask_one(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    numbers = (context.Value("i", 0),)
    with ProcessPoolExecutor(jobs, context, initializer=_own_core, initargs=numbers) as pool:
        waiting = {pool.submit(_ask_one, *task) for task in tasks}
        try:
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in ready)
        finally:
            pool.shutdown(cancel_futures=True)


def _ask_one(item: Item, methods: Sequence[str], options: Mapping[str, Any]) -> list[Answer]:
    return ask(item.load(), methods, options)


def _own_core(counter: Any) -> None:
    """Give each process of the pool one core: finders take as many threads as they may."""
    # a failure is an answer, and the table says so
    logging.getLogger("tomopipe").setLevel(logging.CRITICAL)
    with counter.get_lock():
        number, counter.value = counter.value, counter.value + 1
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
