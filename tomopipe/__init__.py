"""tomopipe: centre of rotation and reconstruction of whole tomography campaigns."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

#: The functions for notebooks, and the module of each.
_API = dict.fromkeys(("correct", "find_cor", "open_scan", "reconstruct", "sweep"), "api")
_API |= dict.fromkeys(("open_campaign", "save_volume", "show"), "notebook")


def __getattr__(name: str) -> Any:
    """Load a function for notebooks when it is used."""
    if name not in _API:
        raise AttributeError(f"module 'tomopipe' has no attribute {name!r}")
    return getattr(import_module(f"tomopipe.{_API[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_API]
