"""The number of GPUs of this machine, without CUDA: a process that has called it cannot fork."""

import os
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # has a folder for each GPU


def gpu_count() -> int:
    """Return the number of GPUs that a process may use: those allotted to it, if some are."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    n_gpus = len(os.listdir(DRIVER)) if DRIVER.is_dir() else None
    if visible is None:
        return n_gpus or 0
    names = [name.strip() for name in visible.split(",")]
    n = next((n for n, name in enumerate(names) if _ends_list(name, n_gpus)), len(names))
    return min(n, 1) if visible.startswith("MIG-") else n  # CUDA uses one instance


def _ends_list(name: str, n_gpus: int | None) -> bool:
    """Tell whether CUDA ignores this name and all after it: there is no such GPU."""
    is_beyond = n_gpus is not None and name.isdecimal() and int(name) >= n_gpus
    return name in ("", "-1") or is_beyond
