"""What other packages add by entry points; they are looked up for names that are not ours alone.

Looking up takes 10 to 50 ms, and loads nothing: the package of a name is imported when the name is
used.
"""

import faulthandler
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any, NamedTuple

from tomopipe.errors import TomopipeError, grouped, reason_of

TIME_LIMIT_S = 600.0
"""Of one call, where the package states no other."""
STUCK_S = 60.0
"""After its time limit a call that holds Python's lock all the time ends its job."""
_limits_s: list[float] = []  # of the calls under way
_changing = threading.Lock()
_logger = logging.getLogger(__name__)

OF_ANOTHER_PACKAGE = (
    "; if a package of your site has it, install that in this environment "
    "(docs/how-to/own-correction.md)"
)


class Package(NamedTuple):
    """The package of an entry point."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def stated(self, revision: int) -> str:
        """Return what results state of it: by a new version alone they are not made again."""
        return f"{self.name}, revision {revision}"


def call(who: str, time_limit_s: float | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of another package; what it raises, or that it hangs, is an error of `who`.

    With a time limit it runs in a thread, which is left behind if it does not return in time: it
    ends with the process. Code that never gives Python's lock back cannot be left: it ends a job.
    """
    results: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function(*args))
        except BaseException as error:
            errors.append(error)

    if time_limit_s is None:
        run()
    else:
        thread = threading.Thread(target=run, name=who, daemon=True)
        _log_once(who, time_limit_s)
        with _end_if_stuck(time_limit_s):
            thread.start()
            thread.join(time_limit_s)
    if not (results or errors):
        raise TomopipeError(
            f"{who}: no result after {time_limit_s:g} s (time_limit_s): its package must be "
            "repaired, or state a longer time"
        )
    for error in errors:
        if isinstance(error, MemoryError | KeyboardInterrupt):
            raise error  # after lack of memory another attempt gets more
        text = reason_of(error) if isinstance(error, Exception) else f"{type(error).__name__}"
        raise TomopipeError(f"{who}: {text}") from error
    return results[0]


@cache
def _log_once(who: str, time_limit_s: float) -> None:
    """Log what is called: a crash says no more."""
    _logger.info("calling %s, for at most %g s each time", who, time_limit_s)


@contextmanager
def _end_if_stuck(time_limit_s: float) -> Iterator[None]:
    """End this job if no Python runs any more; its log then has the lines where its threads are."""
    _watch(_limits_s.append, time_limit_s)
    try:
        yield
    finally:
        _watch(_limits_s.remove, time_limit_s)


def _watch(change: Callable[[float], None], time_limit_s: float) -> None:
    """Let a thread that needs no lock wait for the calls under way, after a change of these."""
    handlers = logging.getLogger().handlers
    logs = [each.stream for each in handlers if isinstance(each, logging.FileHandler)]
    log = next(filter(None, logs), None)  # of a job
    with _changing:
        change(time_limit_s)
        faulthandler.cancel_dump_traceback_later()
        if log and _limits_s:
            faulthandler.dump_traceback_later(max(_limits_s) + STUCK_S, exit=True, file=log)


def load(group: str, name: str, what: str) -> tuple[Any, Package] | None:
    """Import what a package adds under a name; None if no package does.

    A TomopipeError, which begins with `what` the package gives, if several packages do, or if it
    cannot be imported.
    """
    entries = installed(group).get(name, [])
    if not entries:
        return None
    if len(entries) > 1:
        raise TomopipeError(f"{_several(what, entries)}; uninstall all but one")
    package = package_of(entries[0])
    try:
        return entries[0].load(), package
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise TomopipeError(
            f"{what} of {package} ({entries[0].value}) cannot be imported ({text}): repair the "
            "package, or leave the name out"
        ) from error


@cache
def installed(group: str) -> Mapping[str, list[EntryPoint]]:
    """Return the entry points of a group by name; of several packages if they use one name."""
    from importlib.metadata import entry_points

    return grouped((entry.name, entry) for entry in entry_points(group=group))


def package_of(entry: EntryPoint) -> Package:
    """Return the package that an entry point is of."""
    return Package(entry.dist.name, entry.dist.version) if entry.dist else Package("unknown", "")


def collisions(group: str, ours: Collection[str], what: str) -> list[str]:
    """Name each entry point with a name of ours, or of several packages, with its packages."""
    return [
        f"{_several(f'{what} {name}', entries)}; uninstall all but one"
        if name not in ours
        else f"{what} {name} is of tomopipe, and of {_packages(entries)}, which is not used: it "
        "must have another name"
        for name, entries in installed(group).items()
        if name in ours or len(entries) > 1
    ]


def _several(what: str, entries: list[EntryPoint]) -> str:
    return f"{what} is of several packages: {_packages(entries)}"


def _packages(entries: list[EntryPoint]) -> str:
    return " and ".join(str(package_of(entry)) for entry in entries)
