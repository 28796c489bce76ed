"""Shifts of projections, from a file or as the scan states them, undone once and without blur.

Rows are interpolated along the rows alone, by a windowed sinc of six taps [1]_. Columns get the
phase of a shift in the Fourier transform of each row, as the filter of the reconstruction would
apply it: one interpolation for try slices, volumes of any algorithm and stacks alike. With a lens
or a roll to correct, their linear interpolation (`tomopipe.prep.warp`) takes the shifts along.

References
----------
.. [1] C. E. Duchon, "Lanczos filtering in one and two dimensions", J. Appl. Meteorol. 18, 1016
       (1979).
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import fft_of, module_of, once
from tomopipe.config import PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.paths import no_pipe
from tomopipe.prep.recipe import IndexRange, Part

if TYPE_CHECKING:
    from tomopipe.scans.scan import Scan

STATED = "stated"  # value of preprocess.shifts: as the scan states them
_TAPS = 3  # rows on either side
_USUAL_PX = 8.0  # of a scan that is not open
_LEAST_PAD = 32
_REMARK = "#%"


@dataclass(frozen=True, eq=False)
class Shifts:
    """Where the image of a still sample is in each projection: its column plus dx, row plus dy."""

    dx_px: NDArray[np.float64]  # (n_angles,)
    dy_px: NDArray[np.float64]  # (n_angles,)
    n_rows: int = 0  # of the detector
    in_warp: bool = False  # undone with distortion and roll
    columns_last: bool = False  # columns are shifted after stripes, which are straight before

    @property
    def extremes(self) -> list[tuple[float, float]]:
        """The corners of the rectangle of all shifts (dx, dy)."""
        ends = [(values.min(), values.max()) for values in (self.dx_px, self.dy_px)]
        return [(float(dx), float(dy)) for dx in ends[0] for dy in ends[1]]

    def finish(self, sinograms: Any) -> None:
        """Shift the columns of sinograms (n_rows, n_angles, n_cols) without stripes, in place."""
        if self.columns_last and self.dx_px.any():
            for sinogram in sinograms:
                sinogram[...] = _shifted_columns(sinogram[:, None], self, slice(None))[:, 0]


def shifts_of(recipe: PreprocessBlock, scan: Any, beam: Any) -> Shifts:
    """Return the shifts of a scan's projections in use; ScanError if they cannot be had."""
    warped = bool(recipe.switched_on & {"distortion", "roll_deg"})
    more = (scan.n_rows, warped, recipe.stripes.method != "none" and not warped)
    if beam is None:  # an estimate of the memory
        usual_px = np.array([-_USUAL_PX, _USUAL_PX])
        return Shifts(usual_px, usual_px, *more)
    dx_px, dy_px = read_shifts(recipe, scan)
    return Shifts(dx_px, dy_px, *more)


def read_shifts(
    recipe: PreprocessBlock, scan: "Scan"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return dx and dy (n_angles,) in pixels, as `preprocess.shifts` and its scale say."""
    source = str(recipe.shifts)
    pairs = scan.stated_shifts_px() if source == STATED else _read_table(source, scan)
    dx_px, dy_px = (pairs * recipe.shifts_scale).T
    for name, values, size, what in (
        ("dx_px", dx_px, scan.n_cols, "columns"),
        ("dy_px", dy_px, scan.n_rows, "rows"),
    ):
        worst = int(np.argmax(np.abs(values)))
        if abs(values[worst]) >= size:
            where = f"preprocess.shifts: {source}" if source == STATED else source
            raise ScanError(
                f"{where}: {name} is {values[worst]:.6g} at projection {scan.numbers[worst]}, out "
                f"of view; expected less than the {size} {what} (pixels, not um: "
                "preprocess.shifts_scale)"
            )
    return np.ascontiguousarray(dx_px), np.ascontiguousarray(dy_px)


def _read_table(path: str, scan: "Scan") -> NDArray[np.float64]:
    """Read a text file of two columns, for each projection, as (n_angles, 2)."""
    try:
        text = Path(no_pipe(path)).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ScanError(
            f"{path}: cannot be read ({why}); preprocess.shifts expects a text file of dx_px and "
            "dy_px, one line for each projection"
        ) from None
    pairs: list[tuple[float, ...]] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").replace(";", " ").split()
        if not words or words[0][0] in _REMARK:
            continue
        try:
            pair = tuple(map(float, words))
        except ValueError:
            if not pairs and number == 1:  # a heading
                continue
            pair = ()
        if len(pair) != 2 or not all(map(math.isfinite, pair)):
            raise ScanError(
                f"{path}: line {number}: expected two finite numbers, dx_px and dy_px; got "
                f"{line.strip()[:60]!r}"
            )
        pairs.append(pair)
    result = scan.of_projections(np.array(pairs, float).reshape(-1, 2))
    if result is None:
        raise ScanError(
            f"{path}: {len(pairs)} lines of shifts; expected {scan.n_recorded}, one for each "
            "projection of the file"
        )
    return result


def rows_of_shifts(rows: IndexRange, value: str | os.PathLike[str], fit: Shifts) -> IndexRange:
    """Return the rows that some rows come from."""
    if fit.in_warp or not fit.dy_px.any():
        return rows
    low, high = math.floor(fit.dy_px.min()), math.floor(fit.dy_px.max())
    first, last = rows[0] + low - _TAPS + 1, rows[1] + high + _TAPS
    return min(first, rows[0]), max(last, rows[1])


def undo_shifts(projections: Any, value: str, part: Part) -> Any:
    """Move the images of projections (n_frames, n_rows, n_cols) to where a still sample has them.

    Rows beyond the detector repeat its first and last one. Non-finite values count as 0 where
    columns are shifted.
    """
    fit: Shifts = part.fit
    if fit.in_warp:
        return projections
    frames = slice(*part.frames)
    moved = projections[:, part.inner]
    if fit.dy_px.any():
        moved = _shifted_rows(projections, part)
    if fit.columns_last or not fit.dx_px.any():
        return moved
    return _shifted_columns(moved, fit, frames)


def _row_taps(fit: Shifts) -> tuple[Any, ...]:
    """Return whole rows (n_angles,), and the weights (n_angles, 2 _TAPS) of the rows around."""
    whole = np.floor(fit.dy_px)
    distance = np.arange(1 - _TAPS, _TAPS + 1) - (fit.dy_px - whole)[:, None]
    weights = np.sinc(distance) * np.sinc(distance / _TAPS)
    weights /= weights.sum(axis=1, keepdims=True)
    return whole.astype(np.int64), weights.astype(np.float32)


def _shifted_rows(projections: Any, part: Part) -> Any:
    """Interpolate the target rows between the given ones."""
    xp, fit, frames = module_of(projections), part.fit, slice(*part.frames)
    whole, weights = (values[frames] for values in once(xp, _row_taps, fit))
    (first, last), n_rows = part.target, part.target[1] - part.target[0]
    rows = xp.arange(first + 1 - _TAPS, last + _TAPS) + whole[:, None]
    source = xp.clip(rows, 0, fit.n_rows - 1) - part.rows[0]
    around = projections[xp.arange(len(projections))[:, None], source]
    out = around[:, :n_rows] * weights[:, 0][:, None, None]
    for tap in range(1, 2 * _TAPS):
        out += around[:, tap : tap + n_rows] * weights[:, tap][:, None, None]
    return out


def _columns(fit: Shifts) -> tuple[Any, ...]:
    return (fit.dx_px,)


def _shifted_columns(lines: Any, fit: Shifts, frames: slice) -> Any:
    """Shift the columns of lines (n_frames, n_rows, n_cols) by a phase of their transform.

    A line is continued from its right edge value to its left one, along a cosine.
    """
    xp, n_cols = module_of(lines), lines.shape[2]
    fft = fft_of(xp)
    most_px = float(np.abs(fit.dx_px).max())
    n_padded = fft.next_fast_len(n_cols + max(_LEAST_PAD, n_cols // 4, 4 * math.ceil(most_px)))
    (dx_px,) = once(xp, _columns, fit)
    lines = xp.where(xp.isfinite(lines), lines, xp.float32(0))
    n_beyond = n_padded - n_cols
    right = (0.5 + 0.5 * xp.cos(np.pi * (xp.arange(n_beyond) + 0.5) / n_beyond)).astype(xp.float32)
    padded = xp.empty((*lines.shape[:2], n_padded), xp.float32)
    padded[..., :n_cols] = lines
    padded[..., n_cols:] = lines[..., -1:] * right + lines[..., :1] * (1 - right)
    spectra = fft.rfft(padded, axis=-1)
    cycles = dx_px[frames][:, None] * (xp.arange(spectra.shape[2]) / n_padded)
    spectra *= xp.exp(2j * np.pi * (cycles % 1)).astype(xp.complex64)[:, None]
    return fft.irfft(spectra, n=n_padded, axis=-1)[..., :n_cols]
