"""Work in processes of one thread each, telling how far it is."""

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from tomopipe_lab.train.work import Progress


def in_processes(
    function: Callable[..., None],
    jobs: Sequence[tuple[Any, ...]],
    cores: int,
    progress: Progress,
    stage: str,
    total: int,
) -> None:
    """Call a function for each job.

    Parameters
    ----------
    function : callable
        Of a module; leaves its result in a file.
    jobs : sequence of tuple
        Its arguments.
    cores : int
        Processes.
    progress : callable
        Told the stage, how many are done and how many there are.
    stage : str
        Its name.
    total : int
        Jobs in all, those done before included.
    """
    done = total - len(jobs)
    progress(stage, done, total)
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context, initializer=one_thread) as pool:
        for future in [pool.submit(function, *job) for job in jobs]:
            future.result()
            done += 1
            progress(stage, done, total)


def one_thread() -> None:
    """Compute in one thread: the processes share the cores."""
    import numba

    numba.set_num_threads(1)
