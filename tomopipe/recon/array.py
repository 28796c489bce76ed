"""The array module: NumPy, or CuPy where a CUDA device answers. The only import of CuPy."""

import functools
import importlib
import logging
from types import ModuleType

import numpy as np

from tomopipe.errors import TomopipeError

logger = logging.getLogger(__name__)


@functools.cache
def array_module(device: str = "auto") -> ModuleType:
    """Return CuPy for the device "cuda", NumPy for "cpu"; chosen once per process.

    "auto" takes CuPy if it is installed and finds a device, else NumPy. Raises TomopipeError if
    "cuda" is asked for and there is none, ValueError for another device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device: expected auto, cpu or cuda, got {device!r}")
    if device == "cpu":
        return np
    try:
        cupy = importlib.import_module("cupy")
        n_devices = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CuPy raises its own kinds when the driver is missing or too old
        n_devices, reason = 0, f"{type(error).__name__}: {error}"
    else:
        reason = "CuPy found no device"
    if n_devices:
        return cupy
    if device == "cuda":
        raise TomopipeError(
            f"device: cuda was asked for, but there is none ({reason}). "
            "Install tomopipe[gpu-cuda12] on a machine with a GPU, or set device: cpu."
        )
    logger.info("no CUDA device (%s): NumPy", reason)
    return np


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of either array module says that memory ran out."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def of_the_device(error: BaseException) -> bool:
    """Tell whether an error is one of CuPy or of the driver, which says nothing about the data."""
    return type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends", "cupyx")


def free_memory(xp: ModuleType) -> None:
    """Give back what CuPy's pools and transform plans hold; NumPy holds nothing."""
    if xp is not np:
        xp.fft.config.get_plan_cache().clear()
        xp.get_default_memory_pool().free_all_blocks()
        xp.get_default_pinned_memory_pool().free_all_blocks()
