"""COR finders on parts of real scans of known COR: smaller range, fewer columns, fewer angles.

    python lab/benchmarks/bench_find_real.py tooth.h5 --row 0 --row 1 --cor 295.8
    python lab/benchmarks/bench_find_real.py sinogram.tif --span 359.4 --cor 252.35 [--air 47000]

FILE is a scan as tomopipe reads it, or one sinogram as a TIFF, an angle per line: line integrals,
or with `--air` what was counted, of which the open beam has so many. Its COR is to be known from
all of it. The subsets: all; 180 degrees, from four starts in 360; of each a third of the
angles, three quarters and half of the columns about the axis; 170, 155 and 140 degrees, and these
columns of 155. Printed is what bench_find.py prints. Noise, dust, scattered light and the sample
are real; which subsets there are is not.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import tifffile
from bench_find import ask_all, print_table, rows_of

from tomopipe.cor import methods as cor_methods
from tomopipe.cor.curves import Curves
from tomopipe.cor.prepared import Prepared
from tomopipe.prep.normalise import normalise
from tomopipe.scans.exchange import open_scan

FULL_DEG = 350
SHORT_DEG = (170, 155, 140)
SHARES = (0.75, 0.5)  # of the columns
STARTS = 4  # subsets of a full rotation


@dataclass(frozen=True, eq=False)
class Subset:
    """Part of a sinogram (n_angles, n_cols), and where its axis is."""

    name: str
    sinogram: np.ndarray
    theta_deg: np.ndarray
    cor_px: float


def read(options) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return sinograms of line integrals and their angles."""
    if options.file.lower().endswith((".tif", ".tiff")):
        sinogram = tifffile.imread(options.file).astype(np.float32)
        if options.air:
            sinogram = -np.log(np.clip(sinogram / options.air, 1e-3, None))
        return [(sinogram, np.linspace(0, options.span, len(sinogram)))]
    found = []
    with open_scan(options.file) as scan:
        for row in options.row or [scan.n_rows // 2]:
            row_slice = slice(row, row + 1)
            raw = scan.read_rows(row, row + 1)
            lines = normalise(raw, scan.flat[row_slice], scan.dark[row_slice])[:, 0]
            found.append((lines, np.rad2deg(scan.theta_rad)))
    return found


def subsets(sinogram, theta_deg, cor_px, rng) -> Iterator[Subset]:
    theta_deg = np.abs(theta_deg - theta_deg[0])
    n_cols = sinogram.shape[1]
    yield Subset("all", sinogram, theta_deg, cor_px)
    full = theta_deg[-1] > FULL_DEG
    starts = np.linspace(0, 180, STARTS, endpoint=False) if full else [0.0]
    for first in np.searchsorted(theta_deg, starts):

        def angles_over(deg, first=first):
            last = np.searchsorted(theta_deg, theta_deg[first] + deg + 1e-4)
            return slice(first, int(last))

        def subset(name, angles, columns=slice(None)):
            part, theta = sinogram[angles, columns], theta_deg[angles]
            return Subset(name, part, theta - theta[0], cor_px - (columns.start or 0))

        half = angles_over(180)
        if full:
            yield subset("180 degrees", half)
        yield subset("a third of the angles", slice(half.start, half.stop, 3))
        for deg in SHORT_DEG:
            yield subset(f"{deg} degrees", angles_over(deg))
        for share in SHARES:
            width = int(share * n_cols)
            left = cor_px - width / 2 + rng.uniform(-0.05, 0.05) * width
            left = int(np.clip(left, 0, n_cols - width))
            columns = slice(left, left + width)
            yield subset(f"{share:.0%} of the columns", half, columns)
            yield subset(f"{share:.0%} of the columns, 155 degrees", angles_over(155), columns)


def ask(subset, methods):
    grid_px = (subset.sinogram.shape[1] - 1) / 2 + np.arange(-20, 20.5, 0.5)
    rows = rows_of(np.ascontiguousarray(subset.sinogram, np.float32), subset.theta_deg)
    curves = Curves(Prepared(rows))
    found = {name: cor_methods.ask(name, curves, grid_px) for name in methods}
    return subset, {name: (answer.best_cor_px, answer.confidence) for name, answer in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="a scan, or a sinogram as a TIFF")
    parser.add_argument("--cor", type=float, required=True, help="its COR (pixels)")
    parser.add_argument("--row", type=int, action="append", help="of the scan; repeat for more")
    parser.add_argument("--span", type=float, default=180, help="degrees of all lines of a TIFF")
    parser.add_argument("--air", type=float, help="counts of the open beam, if a TIFF has counts")
    parser.add_argument("--method", action="append", default=None, help="ai, classical")
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    methods = options.method or ["ai", "classical"]
    rng = np.random.default_rng(0)
    every = [subset for scan in read(options) for subset in subsets(*scan, options.cor, rng)]
    answers = ask_all(partial(ask, methods=methods), every, options.jobs, "subsets")
    names = dict.fromkeys(subset.name for subset in every)
    groups = {name: [a for a in answers if a[0].name == name] for name in names}
    print_table("subsets", methods, groups)


if __name__ == "__main__":
    main()
