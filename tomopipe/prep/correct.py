"""The corrections of a scan in their order, for any rows: the result does not depend on the choice.

Projections, frame by frame: flat and dark, then `CORRECTIONS` (`tomopipe.config.preprocess`) in
their order. Then sinograms, row by row: stripes. Those of sites (`tomopipe.prep.site`) are among
them, before flat and dark, or last.

Edge slopes of corrected rows, one number per side and scan, are for the truncation extrapolation
(`tomopipe.recon.plan`): with one per row brightness would change between slices. They are measured
on a sum over angles and rows, since single lines vary with the structure at the edge.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread, module_of, theil_sen
from tomopipe.config import PreprocessBlock
from tomopipe.config.stripe_filters import STRIPE_FILTERS, StripesBlock
from tomopipe.prep.flats import Beam, read_beam
from tomopipe.prep.normalise import device_normaliser, normalise
from tomopipe.prep.recipe import (
    GPU_BATCH_BYTES,
    STRIPE_BYTES,
    IndexRange,
    Part,
    Step,
    halo_of,
    steps_of,
    stripe_bytes,
    stripe_rows,
)
from tomopipe.prep.shifts import Shifts
from tomopipe.prep.site import SiteStep
from tomopipe.recon.jit import Team
from tomopipe.scans.scan import Scan

BATCH_BYTES = 16 * 2**20  # of float32 projections being corrected, all threads together

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Corrections:
    """The corrections of one scan; made by `corrections_of`."""

    recipe: PreprocessBlock  # the options
    n_rows: int  # height of the detector
    beam: Beam  # flat and dark at each projection
    steps: tuple[Step | SiteStep, ...]  # the corrections of projections, in their order
    of_sinograms: tuple[SiteStep, ...] = ()  # those of sites, after the stripes
    row_by_row: bool = False  # skip corrections that need neighbouring rows
    stripes_together: bool = False  # on a GPU: of all rows in one call, which takes more memory

    def rows_needed(self, rows: IndexRange) -> IndexRange:
        """Return the rows to read so that `rows` can be corrected, the last excluded."""
        return self._parts((0, 0), rows)[0]

    def _parts(self, frames: IndexRange, rows: IndexRange) -> tuple[IndexRange, list[Part]]:
        """Return the rows to read so that `rows` can be corrected, and what each step gets."""
        parts = []
        for step in reversed(self._steps):
            first, last = step.rows_needed(rows)
            source = max(first, 0), min(last, self.n_rows)
            parts.append(Part(frames, source, rows, step.fit))
            rows = source
        return rows, parts[::-1]

    @property
    def _steps(self) -> tuple[Step | SiteStep, ...]:
        if not self.row_by_row:
            return self.steps
        return tuple(step for step in self.steps if not step.entry.rows_around)

    @property
    def halo(self) -> int:
        """Largest number of further rows read on either side."""
        return halo_of(self._steps, self.n_rows)

    def projections(self, raw: Any, frames: IndexRange, rows: IndexRange) -> Any:
        """Correct some rows of some projections.

        `raw` (n_frames, n_read, n_cols), NumPy or CuPy, holds the raw values of the frames `frames`
        in the rows of `rows_needed`; `rows` are the rows to return, the last excluded. Returns line
        integrals, or transmission without `minus_log`, of float32, (n_frames, rows[1] - rows[0],
        n_cols).
        """
        read, parts = self._parts(frames, rows)
        steps = [*zip(self._steps, parts, strict=True)]
        values = raw
        while steps and isinstance(steps[0][0], SiteStep) and steps[0][0].is_of_counts:
            step, part = steps.pop(0)
            values, read = step(values, part), part.target
        values = self._transmission(values, frames, read)
        for step, part in steps:
            values = step(values, part)
        return values

    def _transmission(self, raw: Any, frames: IndexRange, rows: IndexRange) -> Any:
        """Divide by the flat, less the dark."""
        xp, beam, row_slice = module_of(raw), self.beam, slice(*rows)
        empty = 1.0 if self.recipe.minus_log else 0.0
        if xp is np:
            flat, dark = beam.flat[row_slice], beam.dark[row_slice]
            values = normalise(raw, flat, dark, minus_log=False, empty=empty)
        else:
            values = device_normaliser(xp, beam, row_slice, minus_log=False, empty=empty)(raw)
        self.beam.divide(values, frames, rows)
        return values

    def remove_stripes(self, sinograms: Any, threads: int = 1) -> None:
        """Remove the stripes of sinograms (n_rows, n_angles, n_cols), in place.

        Columns are shifted then, as stripes are straight before.
        """
        options = self.recipe.stripes
        if options.method == "none":
            return
        self._remove_stripes(sinograms, options, threads)
        for step in self.steps:
            if isinstance(step.fit, Shifts):
                step.fit.finish(sinograms)

    def _remove_stripes(self, sinograms: Any, options: StripesBlock, threads: int) -> None:
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

    def correct_rows(self, sinograms: Any, rows: Sequence[int], threads: int = 1) -> None:
        """Correct sinograms (n_rows, n_angles, n_cols) of the rows `rows`, in place."""
        self.remove_stripes(sinograms, threads)
        if not self.of_sinograms:
            return

        def correct(sinogram: Any, row: int) -> None:
            for step in self.of_sinograms:
                sinogram[...] = step.sinogram(sinogram, row)

        room = STRIPE_BYTES // stripe_bytes(*sinograms.shape[1:])
        workers = max(1, min(threads, room)) if module_of(sinograms) is np else 1
        with Team(workers) as team:
            team.run(correct, zip(sinograms, rows, strict=True))

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
        self.correct_rows(out, range(*rows), threads)
        return out


def corrections_of(scan: Scan, recipe: PreprocessBlock, beam: Beam | None = None) -> Corrections:
    """Fit a recipe to a scan: read its flats, find its bad pixels, look up energy and pixel size.

    Parameters
    ----------
    scan : Scan
        An open scan.
    recipe : PreprocessBlock
        The options `preprocess`.
    beam : Beam, optional
        The beam of each projection, by default that of the recipe.

    Returns
    -------
    Corrections
        Flat and dark at each projection, and the corrections of projections in their order.

    Raises
    ------
    ScanError
        If the recipe needs what the scan does not have, which is named.
    """
    beam = beam or read_beam(scan, recipe)
    return in_order(recipe, beam, steps_of(recipe, scan, beam))


def in_order(recipe: PreprocessBlock, beam: Beam, steps: Sequence[Step | SiteStep]) -> Corrections:
    """Return the corrections of a scan from its steps; those of counts also correct the beam."""
    n_rows = len(beam.flat)
    for step in steps:
        if isinstance(step, SiteStep) and step.is_of_counts:
            flat, dark = (step.image(image, (0, n_rows)) for image in (beam.flat, beam.dark))
            beam = replace(beam, flat=flat, dark=dark)
    of_sinograms = tuple(s for s in steps if isinstance(s, SiteStep) and s.is_of_sinograms)
    of_projections = tuple(step for step in steps if step not in of_sinograms)
    return Corrections(recipe, n_rows, beam, of_projections, of_sinograms)


_FRAMES = (8, 32)  # limits of the number of projections, a 16th of all; of each 8 blocks of 8 rows
_N_BLOCKS = 16  # blocks of rows of all projections, where chunks hold many projections
_HIGH = 8  # rows of a block
_SHARE = 20  # the edge is the outer twentieth of the columns
_LEAST_COLS = 4


def measure_edge_slopes(
    scan: Scan,
    corrections: Corrections,
    already_read: Mapping[int, Sequence[NDArray[Any]]] | None = None,
) -> tuple[float, float]:
    """Measure the edge slopes (`edge_slopes_of`) of an open scan after its corrections.

    Some projections are read, or rows where chunks hold many projections. Corrections that need
    neighbouring rows, and stripes, are skipped: they hardly change the slopes. Projections that are
    `already_read` come as `blocks_for_slopes`.
    """
    corrections = replace(corrections, row_by_row=True)
    total = np.zeros(scan.n_cols)

    def add(raw: Any, frames: IndexRange, rows: IndexRange) -> None:
        lines = corrections.projections(raw, frames, rows).reshape(-1, scan.n_cols)
        lines = lines[np.isfinite(lines).all(axis=1)]
        np.add(total, lines.sum(axis=0, dtype=np.float64), out=total)

    spans, frames = rows_for_slopes(scan.n_rows), frames_for_slopes(scan)
    is_whole = scan.chunks is not None and not all(map(scan.has_rows, spans))
    for frame in frames:
        blocks = (already_read or {}).get(frame)
        if blocks is None and is_whole:
            blocks = blocks_for_slopes(scan.read_frames([frame])[0])
        for number, rows in enumerate(spans):
            part = frame, frame + 1
            block = scan.read_block(part, rows) if blocks is None else blocks[number][None]
            add(block, part, rows)
    if not frames:
        chunk_rows = (scan.stored_chunks or (1, 1))[1]
        for rows in _row_blocks(scan.n_rows, min(chunk_rows, _HIGH), _N_BLOCKS):
            add(scan.read_rows(*rows), (0, scan.n_angles), rows)
    slopes = edge_slopes_of(total)
    logger.info(
        "rows fall by %.3g %% and %.3g %% per column at the edges", *np.multiply(100, slopes)
    )
    return slopes


def frames_for_slopes(scan: Scan) -> list[int]:
    """Return the projections that `measure_edge_slopes` uses; none: rows are less to read."""
    deep, chunk_rows = (scan.stored_chunks or (1, 1))[:2]
    n_frames = min(max(_FRAMES[0], scan.n_angles // 16), _FRAMES[1])
    if deep > 1 and _N_BLOCKS * chunk_rows * scan.n_angles < n_frames * deep * scan.n_rows:
        return []
    order = np.argsort(scan.theta_rad, kind="stable")
    return order[evenly_spread(scan.n_angles, n_frames)].tolist()


def blocks_for_slopes(image: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the rows of a projection (n_rows, n_cols) that `measure_edge_slopes` uses."""
    return [image[slice(*rows)] for rows in rows_for_slopes(len(image))]


def rows_for_slopes(n_rows: int) -> list[IndexRange]:
    """Return the rows of a projection that `measure_edge_slopes` uses, each last one excluded."""
    return _row_blocks(n_rows, _HIGH, _N_BLOCKS // 2)


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
