"""Corrections of sites, by functions of other packages: each call is checked, and names them."""

from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np

from tomopipe.arrays import module_of, on_host
from tomopipe.config.base import Block
from tomopipe.config.site_corrections import COUNTS, SINOGRAMS, OfSite, Region, SiteCorrection
from tomopipe.entry_points import call
from tomopipe.errors import TomopipeError

if TYPE_CHECKING:
    from tomopipe.prep.recipe import Detector, IndexRange, Part
    from tomopipe.scans.scan import Scan


@dataclass(frozen=True, eq=False)
class SiteStep:
    """A correction of a site that is on, fitted to a scan; used as `tomopipe.prep.recipe.Step`."""

    correction: OfSite
    options: Block
    fit: "Scan | Detector"
    n_around: int  # rows that it needs on either side

    @property
    def entry(self) -> SiteCorrection:
        """What its package states of it."""
        return self.correction.entry

    @property
    def is_of_counts(self) -> bool:
        """Whether it is applied before flat and dark."""
        return self.entry.before == COUNTS

    @property
    def is_of_sinograms(self) -> bool:
        """Whether it is applied to one row of all projections, after the stripes."""
        return self.entry.before == SINOGRAMS

    def rows_needed(self, rows: "IndexRange") -> "IndexRange":
        """Return the rows that it needs, the last excluded; some may be outside the detector."""
        return rows[0] - self.n_around, rows[1] + self.n_around

    def __call__(self, projections: Any, part: "Part") -> Any:
        """Apply it to projections (n_frames, n_rows, n_cols); counts are copied first."""
        frames = slice(*part.frames)
        region = self._region(part.frames, part.rows, self.fit.theta_rad[frames])
        return self._applied(projections, region)[:, part.inner]

    def image(self, image: Any, rows: "IndexRange") -> Any:
        """Return a flat or dark (n_rows, n_cols), corrected as one projection."""
        region = self._region((0, 1), rows, np.zeros(1))
        return self._applied(image[None], region)[0]

    def sinogram(self, sinogram: Any, row: int) -> Any:
        """Return a corrected sinogram (n_angles, n_cols)."""
        region = self._region((0, len(sinogram)), (row, row + 1), self.fit.theta_rad)
        return self._applied(sinogram[:, None], region)[:, 0]

    def _region(self, frames: "IndexRange", rows: "IndexRange", theta_rad: Any) -> Region:
        first_col = self.fit.first_col
        return Region(frames, rows, (first_col, first_col + self.fit.n_cols), theta_rad)

    def _applied(self, values: Any, region: Region) -> Any:
        """Call the function of the package, on the host unless it takes arrays of a GPU."""
        xp, entry = module_of(values), self.entry
        on_gpu = xp is not np and entry.on_gpu
        given = xp.array(values, np.float32) if on_gpu else np.array(on_host(values), np.float32)
        shape, n_without = given.shape, _n_without_number(given)
        # on a GPU stream and device are those of this thread
        limit_s = None if on_gpu else entry.time_limit_s
        result = call(str(self), limit_s, _call, entry.function, given, self.options, region)
        if fault := _fault(result, type(given), shape):
            raise TomopipeError(f"{self}: expected {fault}")
        if (n := _n_without_number(result)) and (not n_without or n_without < n == result.size):
            raise TomopipeError(
                f"{self}: {n} of {result.size} values that it returned are NaN or infinite; of "
                f"those that it was given {n_without} were"
            )
        return result if on_gpu else xp.asarray(result)

    def __str__(self) -> str:
        return _name(self.correction, self.options)


def site_step(correction: OfSite, options: Block, scan: "Scan | Detector") -> SiteStep:
    """Fit a correction of a site to a scan."""
    n, who = correction.entry.rows_around, _name(correction, options)
    if callable(n):
        n = call(who, correction.entry.time_limit_s, n, options)
    if not isinstance(n, int) or n < 0:
        raise TomopipeError(f"{who}: rows_around: expected a number of rows, got {n!r}")
    call(who, None, correction.described, options)  # its faults, before the volume is there
    return SiteStep(correction, options, scan, n)


def _name(correction: OfSite, options: Block) -> str:
    return f"preprocess.{correction.key}, {options.model_dump()}, of {correction.package}"


def _call(function: Any, *args: Any) -> Any:
    """Call a function, perhaps by its name: `module:name`."""
    return (resolve_name(function) if isinstance(function, str) else function)(*args)


def _fault(result: Any, kind: Any, shape: tuple[int, ...]) -> str:
    """Say what was expected of a result instead of what it is; "" if nothing."""
    if not isinstance(result, kind):
        return f"{kind.__module__}.{kind.__name__}, got {type(result).__name__}"
    if result.shape != shape:
        return f"the shape that it was given, {shape}, got {result.shape}"
    return "" if result.dtype == np.float32 else f"float32, got {result.dtype}"


def _n_without_number(values: Any) -> int:
    """Count values that are NaN or infinite."""
    xp = module_of(values)
    return int(values.size - xp.count_nonzero(xp.isfinite(values)))
