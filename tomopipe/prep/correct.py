"""The corrections of a scan in their order, for any rows: the result does not depend on the choice.

Projections, frame by frame: flat and dark, bad pixels, ring current, zingers, air, distortion and
roll, phase, logarithm, hardening. Then sinograms, row by row: stripes.

Edge slopes of corrected rows, one number per side and scan, are for the truncation extrapolation
(`tomopipe.recon.plan`): with one per row brightness would change between slices. They are measured
on a sum over angles and rows, since single lines vary with the structure at the edge.
"""

import logging
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread, module_of, once, theil_sen
from tomopipe.config import PreprocessBlock
from tomopipe.config.preprocess import STRIPE_FILTERS
from tomopipe.prep.bad_pixels import Repair, find_bad_pixels, plan_repair, remove_zingers
from tomopipe.prep.flats import Beam, read_beam
from tomopipe.prep.normalise import (
    MIN_TRANSMISSION,
    correct_hardening,
    current_factors,
    device_normaliser,
    normalise,
    normalise_to_air,
)
from tomopipe.prep.phase import retrieve_phase
from tomopipe.prep.recipe import (
    GPU_BATCH_BYTES,
    STRIPE_BYTES,
    USUAL,
    IndexRange,
    halo_of,
    phase_strength,
    rows_around,
    stripe_bytes,
    stripe_rows,
    warp_of,
)
from tomopipe.prep.warp import Warp, apply_warp
from tomopipe.recon.jit import Team
from tomopipe.scans.scan import Scan

BATCH_BYTES = 16 * 2**20  # of float32 projections being corrected, all threads together

# input rows and output rows of a correction
_Rows = tuple[IndexRange, IndexRange]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corrections:
    """The corrections of one scan; made by `corrections_of`."""

    recipe: PreprocessBlock  # the options
    n_rows: int  # height of the detector
    beam: Beam  # flat and dark at each projection
    repair: Repair | None  # of the bad pixels
    # (n_angles,): factor of the transmission of each projection
    current: NDArray[np.float32] | None
    warp: Warp | None  # distortion and roll
    alpha_px2: float  # strength of phase retrieval, 0 for none
    # skip corrections that need neighbouring rows (see `recipe.rows_around`)
    row_by_row: bool = False
    stripes_together: bool = False  # on a GPU: of all rows in one call, which takes more memory

    def rows_needed(self, rows: IndexRange) -> IndexRange:
        """Return the rows to read so that `rows` can be corrected, the last excluded."""
        return self._rows_at(rows)[0]

    def _rows_at(self, rows: IndexRange) -> tuple[IndexRange, dict[str, _Rows]]:
        """Return the rows to read, and the rows at each correction that needs neighbouring ones."""
        around = {} if self.row_by_row else rows_around(self.recipe, self.warp, self.alpha_px2)
        row_ranges = {}
        for name, needed in reversed(around.items()):
            first, last = needed(rows)
            source = max(first, 0), min(last, self.n_rows)
            row_ranges[name], rows = (source, rows), source
        return rows, row_ranges

    @property
    def halo(self) -> int:
        """Largest number of further rows read on either side."""
        if self.row_by_row:
            return 0
        return halo_of(self.recipe, self.n_rows, self.beam.flat.shape[1], self.alpha_px2)

    def projections(self, raw: Any, frames: IndexRange, rows: IndexRange) -> Any:
        """Correct some rows of some projections.

        `raw` (n_frames, n_read, n_cols), NumPy or CuPy, holds the raw values of the frames `frames`
        in the rows of `rows_needed`; `rows` are the rows to return, the last excluded. Returns line
        integrals, or transmission without `minus_log`, of float32, (n_frames, rows[1] - rows[0],
        n_cols).
        """
        read, row_ranges = self._rows_at(rows)
        values = self._transmission(raw, frames, read)
        xp, zingers = module_of(values), self.recipe.zingers
        if "zingers" in row_ranges and zingers.threshold is not None:
            values = remove_zingers(values, threshold=zingers.threshold, size_px=zingers.size_px)
            values = values[:, slice(*_within(*row_ranges["zingers"]))]
        if self.recipe.air_px:
            values = normalise_to_air(values, self.recipe.air_px)
        if "warp" in row_ranges and self.warp is not None:
            source, target = row_ranges["warp"]
            values = apply_warp(values, self.warp, target, source)
        if "phase" in row_ranges:
            target = _within(*row_ranges["phase"])
            generalised = self.recipe.phase.method == "generalised"
            values = retrieve_phase(
                values, alpha_px2=self.alpha_px2, rows=target, generalised=generalised
            )
        if self.recipe.minus_log:
            values = -xp.log(xp.maximum(values, xp.float32(MIN_TRANSMISSION)))
        if self.recipe.hardening:
            values = correct_hardening(values, self.recipe.hardening)
        return values

    def _transmission(self, raw: Any, frames: IndexRange, rows: IndexRange) -> Any:
        """Correct each pixel and each frame on its own."""
        xp, beam, row_slice = module_of(raw), self.beam, slice(*rows)
        empty = 1.0 if self.recipe.minus_log else 0.0
        if xp is np:
            flat, dark = beam.flat[row_slice], beam.dark[row_slice]
            values = normalise(raw, flat, dark, minus_log=False, empty=empty)
        else:
            values = device_normaliser(xp, beam, row_slice, minus_log=False, empty=empty)(raw)
        self.beam.divide(values, frames, rows)
        if self.repair is not None:
            self.repair.apply(values, rows)
        if self.current is not None:
            (current,) = once(xp, _current_of, self)
            values *= current[slice(*frames)][:, None, None]
        return values

    def remove_stripes(self, sinograms: Any, threads: int = 1) -> None:
        """Remove the stripes of sinograms (n_rows, n_angles, n_cols), in place."""
        options = self.recipe.stripes
        if options.method == "none":
            return
        remove = resolve_name(STRIPE_FILTERS[options.method].function)
        if module_of(sinograms) is not np:
            step = len(sinograms) if self.stripes_together else stripe_rows(*sinograms.shape[1:])
            for first in range(0, len(sinograms), step):
                sinograms[first : first + step] = remove(sinograms[first : first + step], options)
            return

        def remove_from(sinogram: Any) -> None:
            sinogram[...] = remove(sinogram, options)

        room = STRIPE_BYTES // stripe_bytes(*sinograms.shape[1:])
        with Team(max(1, min(threads, room))) as team:
            team.run(remove_from, ((sinogram,) for sinogram in sinograms))

    def each_projection(
        self, raw: Any, frames: IndexRange, rows: IndexRange, *, threads: int = 1
    ) -> Any:
        """Correct some rows of some projections, a batch of frames at a time.

        As `projections`, but rows come before frames: (rows[1] - rows[0], n_frames, n_cols).
        """
        xp = module_of(raw)
        n_frames, n_read, n_cols = raw.shape
        out = xp.empty((rows[1] - rows[0], n_frames, n_cols), np.float32)
        workers = threads if xp is np else 1
        n_bytes = BATCH_BYTES if xp is np else GPU_BATCH_BYTES
        step = max(1, n_bytes // (4 * n_read * n_cols * workers))

        def correct_batch(first: int) -> None:
            last = min(first + step, n_frames)
            which = frames[0] + first, frames[0] + last
            batch = self.projections(raw[first:last], which, rows)
            out[:, first:last] = batch.transpose(1, 0, 2)

        with Team(workers) as team:
            team.run(correct_batch, ((first,) for first in range(0, n_frames, step)))
        return out

    def sinograms(self, raw: Any, rows: IndexRange, *, threads: int = 1) -> Any:
        """Correct some rows of all projections, stripes included; as `each_projection`."""
        out = self.each_projection(raw, (0, len(raw)), rows, threads=threads)
        self.remove_stripes(out, threads)
        return out


def _current_of(corrections: Corrections) -> tuple[Any, ...]:
    return (corrections.current,)


def corrections_of(scan: Scan, recipe: PreprocessBlock) -> Corrections:
    """Fit a recipe to a scan: read its flats, find its bad pixels, look up energy and pixel size.

    A ScanError names what the recipe needs and the scan does not have.
    """
    beam = read_beam(scan, recipe)
    repair, current = None, None
    if recipe.bad_pixels.threshold is not None:
        bad = find_bad_pixels(beam.flat, beam.dark, recipe.bad_pixels.threshold)
        logger.info("%d bad pixels of %d", np.count_nonzero(bad), bad.size)
        repair = plan_repair(bad)
    if recipe.ring_current.dataset is not None:
        monitor = scan.read_monitor(recipe.ring_current.dataset)
        current = current_factors(monitor, recipe.ring_current.flats_mean)
    return Corrections(
        recipe,
        scan.n_rows,
        beam,
        repair,
        current,
        warp_of(
            recipe,
            scan.n_rows,
            scan.n_cols,
            first_col=scan.first_col,
            detector_cols=scan.detector_cols,
        ),
        phase_strength(recipe, {key: getattr(scan, key) for key in USUAL}),
    )


def _within(source: IndexRange, target: IndexRange) -> IndexRange:
    """Return the slice of the target rows within the source rows."""
    return target[0] - source[0], target[1] - source[0]


_FRAMES = (8, 32)  # limits of the number of projections, a 16th of all; of each 8 blocks of 8 rows
_N_BLOCKS = 16  # blocks of rows of all projections, where chunks hold many projections
_HIGH = 8  # rows of a block
_SHARE = 20  # the edge is the outer twentieth of the columns
_LEAST_COLS = 4


def measure_edge_slopes(scan: Scan, corrections: Corrections) -> tuple[float, float]:
    """Measure the edge slopes (`edge_slopes_of`) of an open scan after its corrections.

    Some projections are read, or rows where chunks hold many projections. Corrections that need
    neighbouring rows, and stripes, are skipped: they hardly change the slopes.
    """
    corrections = replace(corrections, row_by_row=True)
    total = np.zeros(scan.n_cols)

    def add(raw: Any, frames: IndexRange, rows: IndexRange) -> None:
        lines = corrections.projections(raw, frames, rows).reshape(-1, scan.n_cols)
        lines = lines[np.isfinite(lines).all(axis=1)]
        np.add(total, lines.sum(axis=0, dtype=np.float64), out=total)

    deep, chunk_rows = (scan.stored_chunks or (1, 1))[:2]
    n_frames = min(max(_FRAMES[0], scan.n_angles // 16), _FRAMES[1])
    decoded = n_frames * deep * scan.n_rows, _N_BLOCKS * chunk_rows * scan.n_angles
    if deep == 1 or decoded[0] <= decoded[1]:
        order = np.argsort(scan.theta_rad, kind="stable")
        for frame in order[evenly_spread(scan.n_angles, n_frames)].tolist():
            frames = frame, frame + 1
            raw = scan.read_frames([frame]) if scan.chunks else None
            for rows in _row_blocks(scan.n_rows, _HIGH, _N_BLOCKS // 2):
                block = scan.read_block(frames, rows) if raw is None else raw[:, slice(*rows)]
                add(block, frames, rows)
    else:
        for rows in _row_blocks(scan.n_rows, min(chunk_rows, _HIGH), _N_BLOCKS):
            add(scan.read_rows(*rows), (0, scan.n_angles), rows)
    slopes = edge_slopes_of(total)
    logger.info(
        "rows fall by %.3g %% and %.3g %% per column at the edges", *np.multiply(100, slopes)
    )
    return slopes


def edge_slopes_of(line: NDArray[np.floating[Any]]) -> tuple[float, float]:
    """Return the edge slopes of a line (n_cols,), the mean or sum of many rows of sinograms.

    An edge slope is the share of the edge value lost per column going outwards, at the left and at
    the right edge, by a robust straight line (Theil-Sen) through a twentieth of the columns; 0 if
    the line does not fall or is not above 0.
    """
    n = max(_LEAST_COLS, len(line) // _SHARE)
    inwards = np.arange(n) + 0.5  # columns from the edge
    slopes = []
    for side in (line[:n], line[::-1][:n]):
        finite = np.isfinite(side)
        straight = theil_sen(inwards[: len(side)][finite], side[finite])
        slope, at_edge = straight or (0.0, 0.0)
        slopes.append(float(slope / at_edge) if slope > 0 and at_edge > 0 else 0.0)
    return slopes[0], slopes[1]


def _row_blocks(n_rows: int, n_high: int, n_blocks: int) -> list[tuple[int, int]]:
    """Spread blocks of rows over the inner 80 % of the height, as beams fade above and below."""
    margin = n_rows // 10
    first_rows = range(margin, n_rows - margin, n_high)
    chosen = [first_rows[i] for i in evenly_spread(len(first_rows), n_blocks)]
    return [(first, min(first + n_high, n_rows - margin)) for first in chosen]
