"""Errors that are meant for people: each names file, found, expected and what to do."""


class TomopipeError(Exception):
    """An error the user can act on; the command line prints it without a traceback."""


class ScanError(TomopipeError):
    """A scan that cannot be used; the message is the reason written to the inventory."""
