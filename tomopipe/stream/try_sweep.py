"""The sweep of one sinogram over candidate CORs, and the grey window of all its slices."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread, on_host
from tomopipe.cor.collected_rows import Rows
from tomopipe.errors import ScanError
from tomopipe.geometry import bin_cor
from tomopipe.prep import block_average
from tomopipe.prep.half_acquisition import (
    FACTOR,
    HalfAcquisition,
    is_half_acquisition,
    plan_of,
    widen_for_each,
)
from tomopipe.recon import cuda
from tomopipe.recon.angular_sampling import is_full_rotation, unpaired
from tomopipe.recon.device import FEW_SLICES, array_module, held_gpu
from tomopipe.recon.fbp import in_batches, reconstruct, sweep_batches
from tomopipe.recon.plan import EdgeSlopes, Plan, binned_edge_slopes, padded_and_grid_size
from tomopipe.resources.memory import BASE_BYTES, engine_bytes, largest_batch, slice_bytes
from tomopipe.volumes.output_size import try_binning

FILTER = "ramp"
_WINDOW_PERCENT = (0.1, 99.9)
_N_WINDOW = 16  # CORs that determine the grey window

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepOptions:
    """Options for the slices of a sweep."""

    half_acquisition: str
    device: str
    threads: int | None
    memory_bytes: int

    def __post_init__(self) -> None:
        """Raise if the device does not exist, which is not the fault of the scan."""
        array_module(self.device)


@dataclass(frozen=True, eq=False)
class Sweep:
    """One sinogram, with the plan and CORs of its sweep."""

    sinogram: NDArray[np.float32]  # (n_angles, n_cols // binning): averaged over `binning` columns
    plan: Plan  # for its angles and the columns of its slices, in half acquisition twice as many
    cor_px: NDArray[np.float64]  # (n_cor,): candidates, unbinned detector pixels, ascending
    binning: int  # columns averaged into one
    first_col: int  # column of the detector that is the first one of the sinogram
    # share of their value that rows of the sinogram lose per column at both edges
    edge_slopes_per_px: EdgeSlopes


def with_device(
    options: SweepOptions,
    rows: Rows,
    cor_px: NDArray[np.float64],
    max_size_px: int | None,
    stack: ExitStack,
) -> SweepOptions:
    """Reserve a free GPU if one computes; its memory then limits the batches."""
    is_half, binning = _width(rows, cor_px, max_size_px, options)
    _, n_angles, n_cols = rows.sinograms.shape
    size = (FACTOR if is_half else 1) * (n_cols // binning)
    least_bytes = cuda.sweep_gpu_bytes(n_angles, size, FEW_SLICES, is_half=is_half)
    gpu = stack.enter_context(held_gpu(options.device, least_bytes))
    if gpu is None:
        return replace(options, device="cpu")
    return replace(options, memory_bytes=gpu.free_bytes())


def _width(
    rows: Rows, cor_px: NDArray[np.float64], max_size_px: int | None, options: SweepOptions
) -> tuple[bool, int]:
    """Tell whether slices are twice as wide as the detector, and how many columns are averaged."""
    n_cols = rows.sinograms.shape[2]
    is_half = is_half_acquisition(
        options.half_acquisition,
        full_rotation=is_full_rotation(rows.theta_rad),
        cor_px=(cor_px[0] + cor_px[-1]) / 2,
        n_cols=n_cols,
        first_col=rows.first_col,
    )
    factor = FACTOR if is_half else 1
    return is_half, 1 if max_size_px is None else try_binning(factor * n_cols, max_size_px)


def sweep_of(
    rows: Rows,
    index: int,
    cor_px: NDArray[np.float64],
    max_size_px: int | None,
    options: SweepOptions,
    plan: Plan | None = None,
) -> Sweep:
    """Prepare the sweep of one of the rows, averaged over columns to at most `max_size_px`.

    `plan` may be that of another row of the same size; None: a new one.
    """
    is_half, binning = _width(rows, cor_px, max_size_px, options)
    (binned,) = block_average(rows.sinograms[index][None], 1, binning)
    size = (FACTOR if is_half else 1) * binned.shape[1]
    xp = array_module(options.device)
    bytes_of = sweep_bytes if xp is np else cuda.sweep_gpu_bytes
    batch_size = largest_batch(
        lambda n: bytes_of(len(binned), size, n, is_half=is_half), options.memory_bytes
    )
    edge_slopes_per_px = binned_edge_slopes(rows.edge_slopes_per_px, binning)
    if plan is None:
        middle_px = float(bin_cor((cor_px[0] + cor_px[-1]) / 2, x0=rows.first_col, binning=binning))
        alone = unpaired(rows.theta_rad)
        half = HalfAcquisition(binned.shape[1], middle_px, alone, edge_slopes_per_px)
        plan = plan_of(rows.theta_rad, half, is_half, filter=FILTER, xp=xp, batch_size=batch_size)
    return Sweep(binned, plan, cor_px, binning, rows.first_col, edge_slopes_per_px)


def sweep_slices(
    sinogram: Any,
    plan: Plan,
    cor_px: NDArray[np.float64],
    edge_slopes_per_px: EdgeSlopes,
    threads: int | None = None,
    spectra: Any = None,
) -> Iterator[tuple[slice, Any]]:
    """Yield the slices of a sweep, as wide as planned, `plan.batch_size` at a time."""
    if plan.n_cols == sinogram.shape[1]:
        return sweep_batches(sinogram, plan, cor_px, threads=threads, spectra=spectra)

    def widened(batch: slice) -> Any:
        wide, wide_cor_px = widen_for_each(
            sinogram, cor_px[batch], plan.unpaired, edge_slopes_per_px
        )
        return reconstruct(wide, plan, wide_cor_px, threads=threads)

    return in_batches(plan, len(cor_px), widened)


def slices_of(task: Sweep, options: SweepOptions) -> Iterator[NDArray[np.float32]]:
    """Reconstruct the slices of a sweep, a batch at a time, per unbinned pixel."""
    sinogram = task.plan.xp.asarray(task.sinogram)
    cor_px = bin_cor(task.cor_px, x0=task.first_col, binning=task.binning)
    for batch, images in sweep_slices(
        sinogram, task.plan, cor_px, task.edge_slopes_per_px, options.threads
    ):
        logger.info("%d of %d slices", batch.stop, len(cor_px))
        # The values come out per pixel of the sinogram given, which is `binning` pixels wide.
        yield from on_host(images) / np.float32(task.binning)


def grey_window(task: Sweep, options: SweepOptions) -> tuple[float, float]:
    """Choose the grey window of the whole sweep from a few CORs spread over it."""
    few = replace(task, cor_px=task.cor_px[evenly_spread(len(task.cor_px), _N_WINDOW)])
    size = task.plan.n_cols
    y, x = np.ogrid[:size, :size]
    circle = np.hypot(x - (size - 1) / 2, y - (size - 1) / 2) <= size / 2
    values = np.concatenate([image[circle] for image in slices_of(few, options)])
    if not np.isfinite(values).all():
        raise ScanError("the slices of the sweep are not finite. Check flats and darks.")
    low, high = (float(value) for value in np.percentile(values, _WINDOW_PERCENT))
    if not low < high:
        raise ScanError(
            f"no signal: the slices of the sweep are {low:g} everywhere; try_recon.row names "
            "another row"
        )
    return low, high


def sweep_bytes(n_angles: int, n_cols: int, batch_size: int, *, is_half: bool = False) -> int:
    """Return the peak memory of a sweep on the CPU that hands on batch by batch.

    Spectra with a temporary copy, or in half acquisition a widened sinogram for each slice, one
    batch of slices, and the engine; independent of the number of CORs.
    """
    n_bins = padded_and_grid_size(n_cols)[0] // 2 + 1
    row = 4 * (batch_size + 2) * n_cols if is_half else 32 * n_bins
    images = batch_size * slice_bytes(n_cols)
    return BASE_BYTES + n_angles * row + images + engine_bytes(n_angles, n_cols, batch_size)
