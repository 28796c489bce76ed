"""The number of GPUs of this machine, without CUDA: a process that has called it cannot fork."""

import os
from pathlib import Path

DRIVER = Path("/proc/driver/nvidia/gpus")  # has a folder for each GPU


def gpu_count() -> int:
    """Return the number of GPUs that a process may use: those allotted to it, if some are."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return len(os.listdir(DRIVER)) if DRIVER.is_dir() else 0
    names = [name.strip() for name in visible.split(",")]
    end = next((n for n, name in enumerate(names) if name in ("", "-1")), len(names))  # CUDA's rule
    return min(end, 1) if visible.startswith("MIG-") else end  # CUDA uses one instance
