"""The kernels of corrections: compiled ones for NumPy, others for CuPy.

All other lines of this package are the same for both.
"""

import importlib
from types import ModuleType

import numpy as np


def kernels_of(xp: ModuleType) -> ModuleType:
    """Return the module with medians, resampling and wavelets for the arrays of a module.

    They are imported here, as loading compiled code takes a second.
    """
    name = "host_kernels" if xp is np else "device_kernels"
    return importlib.import_module(f"tomopipe.prep.{name}")
