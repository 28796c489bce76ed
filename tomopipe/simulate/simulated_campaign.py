"""Simulated campaigns with known truth: raw scans, a minimal config, and truth.json.

The scans of a series show objects of one kind, one above the other. The axis follows the stage: at
each of its heights, which the files record, the COR is another one, and in the next series it comes
back. Two scans are special:

aborted
    An additional scan at the end of the last series, with few frames but all angles.
fixed pattern
    In the middle of the first series: a truncated, noisy object of low contrast behind dust that
    does not rotate and is symmetric about another column. Methods that compare mirrored projections
    find that column, or nothing.

``truth.json`` records both. The workflow never reads it.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.campaign.files import CONFIG, TRUTH
from tomopipe.errors import TomopipeError, some_of
from tomopipe.simulate.phantom import KINDS, Phantom
from tomopipe.simulate.simulated_scan import Beam, ScanFile, simulate_scan
from tomopipe.storage.atomic import write_json, write_text

GEOMETRY = (
    "voxel (x, y) of slice [y, x] is seen at column "
    "cor_px + (x - n_cols // 2) cos(theta) - (y - (n_cols // 2 - 1)) sin(theta); "
    "ellipsoids: x_px = x - n_cols // 2, y_px = y - (n_cols // 2 - 1), row = detector row"
)
SMALLEST = {"n_series": 1, "n_scans": 1, "n_cols": 64, "n_rows": 1, "n_angles": 20}
_STEP_MM = 1.5  # of the stage, from one scan of a series to the next
SMALLEST_STACKED = 20  # rows, of which 10 are shared
ENDINGS = {"dxchange": ".h5", "nxtomo": ".nx"}


@dataclass(frozen=True)
class ScanPlan:
    """Parameters of one scan."""

    # scan (file stem) and its series
    name: str
    series: str
    index: int  # number in the series
    cor_px: float  # true COR
    seed: tuple[int, ...]  # seed of detector and noise
    special: tuple[str, ...]  # "aborted" or "fixed pattern", as described above
    phantom: Phantom  # the object
    beam: Beam  # beam and detector
    # planned angles, and projections written
    n_angles: int
    n_frames: int
    height_mm: float | None = None  # of the stage

    @property
    def theta_deg(self) -> NDArray[np.float64]:
        """Planned angles (degrees), both ends included."""
        return np.linspace(0, 180, self.n_angles)


@dataclass(frozen=True)
class Simulation:
    """Parameters of a simulated campaign; equal parameters give equal files, byte for byte."""

    # series, and complete scans in each; one aborted scan is added
    n_series: int = 2
    n_scans: int = 4
    # size of a scan
    n_cols: int = 160
    n_rows: int = 24
    n_angles: int = 181
    counts: float | None = 20000.0  # photons per pixel of the open beam; None: no noise
    # written into the scans
    pixel_size_um: float = 0.65
    energy_kev: float = 25.0
    seed: int = 0  # of objects, patterns and noise
    format: str = "dxchange"  # of the scans: dxchange or nxtomo
    # number of scans of an additional, tall object at different heights, which the config stitches
    n_heights: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes with a lower limit in `SMALLEST`."""
        return {name: getattr(self, name) for name in SMALLEST}


def simulate_campaign(
    folder: str | os.PathLike[str],
    target: Simulation = Simulation(),
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Write a campaign with known truth into a new or empty folder; return the truth.json.

    The folder gets raw/*.h5 (NXtomo: raw/*.nx), config.yaml and truth.json. `progress` is called as
    progress(done, total, name) before each scan and once at the end. Raises TomopipeError if the
    folder is not empty or a size is too small.
    """
    folder = Path(folder)
    _check(folder, target)
    ending = ENDINGS[target.format]
    tall = plan_heights(target)
    plans = [*plan_scans(target), *tall.values()]
    for done, scan in enumerate(plans):
        if progress:
            progress(done, len(plans), scan.name)
        simulate_scan(
            folder / "raw" / f"{scan.name}{ending}",
            scan.phantom,
            scan.theta_deg,
            scan.cor_px,
            (target.n_rows, target.n_cols),
            beam=scan.beam,
            seed=scan.seed,
            file=ScanFile(
                format=target.format,
                n_frames=scan.n_frames,
                pixel_size_um=target.pixel_size_um,
                energy_kev=target.energy_kev,
                height_mm=scan.height_mm,
            ),
        )
    truth = {
        "geometry": GEOMETRY,
        "seed": target.seed,
        "sizes": target.sizes,
        "pixel_size_um": target.pixel_size_um,
        "energy_kev": target.energy_kev,
        "scans": {scan.name: _truth_of(scan, ending) for scan in plans},
        "heights": {scan.name: row for row, scan in tall.items()},
    }
    write_json(truth, folder / TRUTH)
    write_text(_config(target.n_cols, ending, stitched=bool(tall)), folder / CONFIG)
    if progress:
        progress(len(plans), len(plans), "")
    return truth


def plan_scans(target: Simulation) -> list[ScanPlan]:
    """Return every scan of a campaign, the aborted one last."""
    n_series, n_scans = target.n_series, target.n_scans
    n_cols, n_rows = target.n_cols, target.n_rows
    plans = []
    for number in range(n_series):
        kind = list(KINDS)[number % len(KINDS)]
        cycle = number // len(KINDS)
        series = kind if cycle == 0 else f"{kind}_{cycle + 1}_"
        # the last series ends with the aborted scan
        total = n_scans + (number == n_series - 1)
        cors_px = _cors(n_cols, total, target.seed, number)
        for index, cor_px in enumerate(cors_px, start=1):
            scan_seed = (target.seed, number, index)
            plans.append(
                ScanPlan(
                    name=f"{series}_{index:03d}".replace("__", "_"),
                    series=series.rstrip("_"),
                    index=index,
                    cor_px=cor_px,
                    seed=scan_seed,
                    special=(),
                    phantom=KINDS[kind](n_cols, n_rows, _int_seed(scan_seed)),
                    beam=Beam(counts=target.counts),
                    n_angles=target.n_angles,
                    n_frames=target.n_angles,
                    height_mm=_STEP_MM * (index - 1),
                )
            )
    plans[-1] = replace(plans[-1], special=("aborted",), n_frames=max(1, target.n_angles // 6))
    plans[n_scans // 2] = _misleading(plans[n_scans // 2], n_cols, n_rows)
    return plans


def plan_heights(target: Simulation) -> dict[float, ScanPlan]:
    """Return scans of a tall object by their first row in it; neighbours share a third."""
    n_heights, n_cols, n_rows = target.n_heights, target.n_cols, target.n_rows
    n_angles, seed = target.n_angles, target.seed
    if n_heights and n_rows < SMALLEST_STACKED:
        raise TomopipeError(
            f"simulate: expected n_rows of at least {SMALLEST_STACKED}; got {n_rows}"
        )
    firsts = [round(k * (n_rows - max(10, n_rows // 3) + 0.4), 2) for k in range(n_heights)]
    tall = KINDS["foam"](n_cols, round(max(firsts, default=0)) + n_rows, _int_seed((seed, 5)))
    cors_px = _cors(n_cols, max(1, n_heights), seed, 5)
    plans = {}
    for index, (row, cor_px) in enumerate(zip(firsts, cors_px, strict=False), start=1):
        plans[row] = ScanPlan(
            f"tall_{index:03d}", "tall", index, cor_px, (seed, 5, index), (),
            tall.moved(rows=-row), Beam(counts=target.counts), n_angles, n_angles,
        )  # fmt: skip
    return plans


def _cors(n_cols: int, n_scans: int, seed: int, series: int) -> list[float]:
    """Return the CORs of a series, at heights of the stage from the lowest on.

    The axis is up to 6 % of the width off the middle, and up to 3 px more at each height, the same
    in all series to 0.4 px: wrong CORs are farther off.
    """
    places = np.random.default_rng([seed, 7])
    start_px = places.choice([-1, 1]) * places.uniform(0.02, 0.06) * n_cols
    at_height_px = places.uniform(-3, 3, n_scans)
    rng = np.random.default_rng([seed, series, 7])
    jitter_px = rng.uniform(-0.2, 0.2) + rng.uniform(-0.2, 0.2, n_scans)
    cor_px = (n_cols - 1) / 2 + start_px + at_height_px + jitter_px
    return [float(value) for value in np.round(cor_px, 3)]


def _misleading(scan: ScanPlan, n_cols: int, n_rows: int) -> ScanPlan:
    """Return the scan with a faint object behind dust that is symmetric about a wrong column."""
    middle_px = (n_cols - 1) / 2
    side = -1.0 if scan.cor_px > middle_px else 1.0
    # beyond the 10 px that fix_cor always allows, but within the sweep of the config
    wrong_px = scan.cor_px + side * max(14.0, 0.09 * n_cols)
    kind = KINDS[scan.phantom.kind]
    counts = scan.beam.counts
    return replace(
        scan,
        special=("fixed pattern",),
        phantom=kind(n_cols, n_rows, _int_seed(scan.seed), size=1.6).scaled(0.1),
        beam=replace(
            scan.beam,
            counts=None if counts is None else counts / 20,
            fixed_dust_px=round(wrong_px, 3),
            stripes=n_cols // 8,
        ),
    )


def _int_seed(seed: tuple[int, ...]) -> int:
    """Return an integer seed derived from several integers."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


def _truth_of(scan: ScanPlan, ending: str) -> dict[str, Any]:
    """Return the entry of a scan in truth.json."""
    return {
        **asdict(scan),
        "seed": list(scan.seed),
        "special": list(scan.special),
        "phantom": scan.phantom.to_dict(),
        "path": f"raw/{scan.name}{ending}",
    }


def _config(n_cols: int, ending: str, *, stitched: bool) -> str:
    """Return a minimal config for the campaign."""
    width_px = max(20, round(n_cols / 8))
    stitch = "stitch:\n  stacks: {tall: [tall_*]}\n" if stitched else ""
    return f"campaign:\n  scans: [raw/*{ending}]\ntry_recon:\n  width_px: {width_px}\n{stitch}"


def _check(folder: Path, target: Simulation) -> None:
    """Raise if the folder is not empty, or a parameter is out of range."""
    counts = target.counts
    for name, value in target.sizes.items():
        if value < SMALLEST[name]:
            raise TomopipeError(
                f"simulate: expected {name} of at least {SMALLEST[name]}, got {value}. "
                "Ask for a larger campaign."
            )
    if counts is not None and not 1 <= counts <= 1e15:
        raise TomopipeError(f"simulate: expected counts of 1 to 1e15 photons, got {counts}.")
    if target.seed < 0:
        raise TomopipeError(f"simulate: expected a seed of 0 or more, got {target.seed}.")
    if target.format not in ENDINGS:
        formats = " or ".join(ENDINGS)
        raise TomopipeError(f"simulate: expected format {formats}, got {target.format}.")
    if folder.exists() and not folder.is_dir():
        raise TomopipeError(f"{folder}: expected a folder, found a file. Choose another name.")
    results = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    if results:
        names = some_of(results, 3)
        raise TomopipeError(
            f"{folder}: expected a new or empty folder, found {names}. Choose another folder, or "
            "remove what is in this one."
        )
