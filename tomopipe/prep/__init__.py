"""Corrections of projections: arrays in, arrays out.

The same lines for NumPy and CuPy, but for `kernels_of`.
"""

import importlib
from types import ModuleType

import numpy as np


def kernels_of(xp: ModuleType) -> ModuleType:
    """Return the module of compiled code for arrays of a module; loading it takes a second."""
    name = "host_kernels" if xp is np else "device_kernels"
    return importlib.import_module(f"tomopipe.prep.{name}")
