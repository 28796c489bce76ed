"""tomopipe: centre of rotation and reconstruction of whole tomography campaigns."""

from typing import Any

__version__ = "0.1.0"

_API = ("correct", "find_cor", "open_scan", "reconstruct", "sweep")


def __getattr__(name: str) -> Any:
    """Load the functions for notebooks (`tomopipe.api`) when one is asked for."""
    if name not in _API:
        raise AttributeError(f"module 'tomopipe' has no attribute {name!r}")
    from tomopipe import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return [*globals(), *_API]
