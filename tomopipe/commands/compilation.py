"""Compile the kernels of a campaign for this type of CPU before its first run, and say so.

The code is that of `tomopipe.recon.jit`, where jobs find it; without this the first jobs compile.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

_ROOMS = "recon", "cor", "prep", "volumes"  # which have kernels
_SIZE_PX, _N_ANGLES = 64, 61
_N_SLICES = 16, 8, 3  # for 16, 8 and 4 lanes
N_PARTS = len(_N_SLICES) + 1


def compile_once(directory: Path, say: Callable[[str], object]) -> None:
    """Compile for this type of CPU, unless that was done for this installation.

    Where the user's cache cannot be written, the code is kept in the campaign `directory`. If it
    fails, the first jobs compile.
    """
    from tomopipe.recon.jit import cache_folder, cpu_name, thread_count  # NumPy

    folder = cache_folder(str(directory))
    if not folder or (stamp := Path(folder, f"compiled-{_digest()}")).exists():
        return
    say(
        f"compiling for this processor ({cpu_name()}), once: up to a minute, more if it is busy "
        "(Ctrl-C skips it: then the first jobs compile)"
    )
    environment = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder).parent)}
    words, n = [sys.executable, "-P", "-m", __name__], min(thread_count(), N_PARTS)
    try:
        with ThreadPoolExecutor(n) as pool:
            calls = [[*words, str(part), str(n)] for part in range(n)]
            list(pool.map(partial(subprocess.run, env=environment, check=True), calls))
        stamp.touch()
    except (OSError, subprocess.CalledProcessError, KeyboardInterrupt):
        say("not compiled: the first jobs will be slower")


def _digest() -> str:
    """Return a digest of all that compiled code depends on, beside the type of CPU."""
    from tomopipe.recon.jit import code_state

    package = Path(__file__).parents[1]
    sources = [path for room in _ROOMS for path in (package / room).glob("*.py")]
    return code_state(sources)[:16]


def compile_kernels(part: int = 0, n_parts: int = 1) -> None:
    """Compile one of at most `N_PARTS` parts of the code of jobs, by default all of it.

    A small object is reconstructed and projected, with all numbers of lanes, and its COR found.
    """
    import numpy as np

    from tomopipe import api
    from tomopipe.cor.kernels import average_columns, mean_lines
    from tomopipe.prep.line_integrals import to_line_integrals
    from tomopipe.recon.iterative import make_projector
    from tomopipe.volumes.slice_kernels import extremes_and_sums

    theta_deg, cor_px = np.linspace(0, 180, _N_ANGLES), (_SIZE_PX - 1) / 2
    centre_px = cor_px + 6 * np.cos(np.deg2rad(theta_deg))[:, None]
    disk = 1 - ((np.arange(_SIZE_PX) - centre_px) / 20) ** 2
    rows = np.sqrt(np.maximum(disk, 0)) * np.linspace(1, 1.5, max(_N_SLICES))[:, None, None]

    def find_cor() -> None:
        frames, ones = np.ones((1, 1, 4), np.uint16), np.ones((1, 4), np.float32)
        out = np.empty(frames.shape, np.float32)
        mean_lines(frames, ones, ones, 1, np.float32(1), out[..., 0])
        average_columns(ones, 2, out[0, :, :2])
        to_line_integrals(frames.ravel(), 0, 4, ones, ones, 1e-5, out)
        api.find_cor(rows, theta_deg)

    def reconstruct(n: int) -> None:
        api.sweep(rows[0], theta_deg, cor_px + np.arange(n), device="cpu")
        extremes_and_sums(api.reconstruct(rows[:n], theta_deg, cor_px, device="cpu"), 4)
        projector = make_projector(np.deg2rad(theta_deg), _SIZE_PX, cor_px)
        projector.project(np.ones((n, _SIZE_PX, _SIZE_PX), np.float32))

    calls: list[Callable[[], None]] = [partial(reconstruct, n) for n in _N_SLICES]
    for call in [*calls, find_cor][part::n_parts]:
        call()


if __name__ == "__main__":
    compile_kernels(*map(int, sys.argv[1:]))
