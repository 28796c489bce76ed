"""Threads that share the calls of one function."""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Team:
    """Threads that share the calls of a stage; `run` returns when all are done."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, function: Callable[..., Any], calls: Iterable[tuple[Any, ...]]) -> None:
        """Call a function with each tuple of arguments."""
        if self._pool is None:
            for arguments in calls:
                function(*arguments)
            return
        for future in [self._pool.submit(function, *arguments) for arguments in calls]:
            future.result()

    def __enter__(self) -> "Team":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()


def parts(n: int, n_parts: int) -> list[tuple[int, int]]:
    """Cut range(n) into at most `n_parts` (first, last) ranges of nearly equal length."""
    edges = [n * i // n_parts for i in range(n_parts + 1)]
    return [(a, b) for a, b in itertools.pairwise(edges) if b > a]
