"""Errors that are meant for people: each names file, found, expected and what to do."""

from collections.abc import Sequence


class TomopipeError(Exception):
    """An error the user can act on; the command line prints it without a traceback."""


class ScanError(TomopipeError):
    """A scan that cannot be used; the message is the reason written to the inventory."""


class RunEndedError(TomopipeError):
    """The run that a job belongs to has ended, or a newer one has begun."""


def some_of(names: Sequence[str], n_most: int) -> str:
    """Name the first of several things, as a part of a sentence; dots stand for the others."""
    return ", ".join([*names[:n_most], *(["..."] if len(names) > n_most else [])])
