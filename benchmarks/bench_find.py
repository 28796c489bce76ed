"""Accuracy of the COR finders per kind of damage, on seeded simulated scans of known COR.

    python benchmarks/bench_find.py --quick
    python benchmarks/bench_find.py --n 40 --seed 7 --kinds truncated half --methods pairs slices

Each scan is exact line integrals of a rock, a foam or a capillary with beads, of random size,
photon noise and COR, and one kind of damage. No answer counts as a miss. Shares come with Wilson
intervals of 95 %. "decision" is what predict_cor makes of all methods together: `best` its best
estimate, `accepted` the share it accepts, `wrong` how many of those are off by more than 1 px.
Scans without an answer (the last kinds) have only the last two.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomopipe.find import METHODS, Evidence, choose
from tomopipe.io.rows import Rows
from tomopipe.prep.collect import opposed_pairs, spread_rows
from tomopipe.simulate.objects import KINDS as OBJECTS
from tomopipe.simulate.phantom import project
from tomopipe.steps.predict_cor import finder

MIN_CONFIDENCE = 0.5
WITHOUT_ANSWER = ("only noise", "only drift", "only dust", "only stripes")
KINDS = (
    "clean", "few photons", "stripes", "zingers", "drift", "dirt", "truncated", "few angles",
    "wedge", "full turn", "half acquisition", "half, thin", "far axis", "no pairs, one row",
    "wedge, truncated", "mixed", *WITHOUT_ANSWER,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Case:
    """One scan and its truth, None if it has no answer."""

    kind: str
    rows: Rows
    cor_px: float | None


def make_case(kind: str, seed: int) -> Case:
    """Simulate what try_recon would keep of a scan with one kind of damage."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    n_cols = int(rng.choice([192, 240, 301]))
    mixed = kind == "mixed"
    n_rows = 1 if kind == "no pairs, one row" or (mixed and rng.random() < 0.5) else 24
    n_angles, turn_deg = int(rng.choice([181, 241, 361])), 180.0
    size, off = rng.uniform(0.35, 0.8), rng.uniform(-0.06, 0.06)
    counts = float(np.exp(rng.uniform(np.log(2000), np.log(50000))))
    if kind == "few photons":
        counts = float(np.exp(rng.uniform(np.log(100), np.log(1000))))
    elif kind == "truncated":
        size = rng.uniform(1.1, 2.0)
    elif kind == "few angles":
        n_angles = int(rng.integers(31, 91))
    elif mixed:
        counts = float(np.exp(rng.uniform(np.log(150), np.log(5000))))
        size, off = rng.uniform(0.3, 1.8), rng.uniform(-0.15, 0.15)
        n_angles = int(rng.choice([61, 121, 241]))
        turn_deg = float(rng.choice([160.0, 180.0, 180.0, 360.0]))
    if kind.startswith("wedge"):
        turn_deg = rng.uniform(120, 176)
        size = rng.uniform(1.1, 1.6) if "truncated" in kind else size
    if kind in ("full turn", "half acquisition", "half, thin"):
        turn_deg, n_angles = 360.0, int(rng.choice([241, 361, 601]))
    if kind == "far axis":
        size, off = rng.uniform(0.3, 0.5), rng.choice([-1, 1]) * rng.uniform(0.1, 0.24)
    if kind == "half acquisition":
        off = rng.choice([-1, 1]) * rng.uniform(0.22, 0.42)
        size = rng.uniform(1.0, 1.0 + 2 * abs(off))
    elif kind == "half, thin":  # air at the far side, the object cut at the near one
        off = rng.choice([-1, 1]) * rng.uniform(0.22, 0.4)
        size = rng.uniform(1.15 - 2 * abs(off), 0.92)
    cor_px = (n_cols - 1) / 2 + off * n_cols
    theta = np.linspace(0, turn_deg, n_angles, endpoint=rng.random() < 0.6 or turn_deg < 180)
    theta_rad = np.deg2rad(rng.uniform(0, 360) + rng.choice([-1, 1]) * theta)
    phantom = OBJECTS[str(rng.choice(list(OBJECTS)))](
        n_cols, n_rows, int(rng.integers(1 << 30)), size=size
    )
    if kind in WITHOUT_ANSWER:
        integrals = np.zeros((n_angles, n_rows, n_cols), np.float32)
    else:
        integrals = project(phantom, theta_rad, cor_px, n_rows, n_cols)
    damages = rng.choice(["stripes", "zingers", "drift", "dirt", ""], 2) if mixed else kind
    damaged = _damage(" ".join(damages) if mixed else kind, integrals, counts, rng)
    rows = keep_rows(damaged, theta_rad, pairs=n_rows > 1)
    return Case(kind, rows, None if kind in WITHOUT_ANSWER else float(cor_px))


def keep_rows(projections: NDArray, theta_rad: NDArray, *, pairs: bool = True) -> Rows:
    """What try_recon keeps of corrected projections (n_angles, n_rows, n_cols)."""
    n_rows, n_cols = projections.shape[1:]
    kept = spread_rows([(n_rows - 1) // 2], n_rows)
    frames = opposed_pairs(theta_rad) if pairs else np.zeros((0, 2), int)
    return Rows(
        sinograms=np.ascontiguousarray(projections[:, kept].swapaxes(0, 1)),
        row_index=np.array(kept),
        theta_rad=theta_rad,
        pairs=projections[frames].reshape(-1, 2, n_rows, n_cols),
        pair_theta_rad=theta_rad[frames],
        n_rows=n_rows,
        theta_missing=False,
        minus_log=True,
        failed="",
    )


def _damage(kind: str, integrals: NDArray, counts: float, rng: np.random.Generator) -> NDArray:
    """Photon noise, and the damage that a kind is named after."""
    n_angles, n_rows, n_cols = integrals.shape
    beam = np.exp(-integrals.astype(np.float64))
    column, row = np.arange(n_cols), np.arange(n_rows)[:, None]
    if "stripes" in kind:
        for _ in range(rng.integers(4, 30)):
            first, width = rng.integers(n_cols), rng.choice([1, 1, 2, 6])
            beam[:, :, first : first + width] *= 1 + 0.03 * rng.normal()
    if "drift" in kind:
        walk = ndimage.gaussian_filter1d(np.cumsum(rng.normal(size=(2, n_angles)), axis=1), 5)
        flux, tilt = 0.05 * walk / np.abs(walk).max(axis=1, keepdims=True)
        beam *= 1 + (flux[:, None] + tilt[:, None] * (column / n_cols - 0.5))[:, None]
    if "dirt" in kind or "dust" in kind:
        for _ in range(rng.integers(6, 25)):
            distance2 = (column - rng.uniform(0, n_cols)) ** 2
            distance2 = distance2 + (row - rng.uniform(0, n_rows)) ** 2
            depth, radius_px = 0.1 * rng.normal(), rng.uniform(1, 5)
            beam *= np.exp(depth * np.exp(-distance2 / (2 * radius_px**2)))
    photons = rng.poisson(np.maximum(beam, 0) * counts)
    if "zingers" in kind:
        hot = rng.random(photons.shape) < 5e-4
        photons[hot] += (counts * rng.uniform(0.5, 3, hot.sum())).astype(photons.dtype)
    return (-np.log(np.maximum(photons, 0.5) / counts)).astype(np.float32)


def look(case: Case, methods: Iterable[str], width: float) -> dict[str, tuple[Evidence, float]]:
    """Ask each method; the grid reaches `width` times the columns to each side of the middle."""
    n_cols = case.rows.sinograms.shape[2]
    reach_px = np.ceil(width * n_cols)
    grid_px = (n_cols - 1) / 2 + np.arange(-reach_px, reach_px + 0.25, 0.5)
    grid_px = grid_px[(grid_px >= 0) & (grid_px <= n_cols - 1)]
    answers = {}
    for name in methods:
        start = time.perf_counter()
        answers[name] = finder(name)(case.rows, grid_px), time.perf_counter() - start
    return answers


def wilson(n_hits: int, n: int) -> tuple[float, float]:
    """Interval of 95 % for a share."""
    z2 = 1.96**2
    middle = (n_hits + z2 / 2) / (n + z2)
    half = 1.96 * np.sqrt(n_hits * (n - n_hits) / n + z2 / 4) / (n + z2)
    return middle - half, middle + half


@dataclass
class Tally:
    """Errors of one method (or of the decision) on one kind of damage."""

    errors_px: list[float]
    accepted: list[bool]
    seconds: list[float]

    def line(self) -> str:
        """One line of the table."""
        errors, accepted = np.array(self.errors_px), np.array(self.accepted)
        n, n_wrong = len(errors), int(np.sum(accepted & ~(errors <= 1)))
        text = f"{n:4d}"
        if np.isnan(errors).all():
            text += " " * 36
        else:
            for limit_px in (0.5, 1.0):
                hits = int(np.sum(errors <= limit_px))
                low, high = wilson(hits, n)
                text += f"  {hits / n:4.2f} ({low:4.2f} {high:4.2f})"
            text += f" {np.median(errors):6.2f}"
        return f"{text} {accepted.mean():9.2f} {n_wrong:6d} {np.mean(self.seconds):7.2f}"


def measure(
    kinds: Iterable[str],
    methods: list[str],
    n: int,
    seed: int,
    width: float,
    report: Callable[[str], None] = print,
) -> dict[tuple[str, str], Tally]:
    """Simulate n scans of each kind, ask every method, report each kind as it is done."""
    tallies: dict[tuple[str, str], Tally] = defaultdict(lambda: Tally([], [], []))
    head = f"{'within 0.5 px':>18}  {'within 1 px':>16} {'median':>8} {'accepted':>9} {'wrong':>6}"
    report(f"{'kind':18} {'method':9} {'n':>4}{head} {'s':>7}")
    for kind in kinds:
        for i in range(n):
            case = make_case(kind, seed + i)
            answers = look(case, methods, width)
            decision = choose([evidence for evidence, _ in answers.values()], MIN_CONFIDENCE)
            said = {
                name: (one.best_cor_px, one.verdict == "resolved" and one.confidence >= 0.5, spent)
                for name, (one, spent) in answers.items()
            }
            total = sum(spent for _, spent in answers.values())
            said["decision"] = decision.best_cor_px, decision.cor_px is not None, total
            for name, (best_px, accepted, spent) in said.items():
                error_px = np.inf if best_px is None else abs(best_px - (case.cor_px or 0))
                for tally in (tallies[kind, name], tallies["all", name]):
                    if case.cor_px is not None or tally is tallies[kind, name]:
                        tally.errors_px.append(error_px if case.cor_px is not None else np.nan)
                        tally.accepted.append(accepted)
                        tally.seconds.append(spent)
        for name in (*methods, "decision"):
            report(f"{kind:18} {name:9} {tallies[kind, name].line()}")
    for name in (*methods, "decision"):
        if tallies["all", name].errors_px:
            report(f"{'all':18} {name:9} {tallies['all', name].line()}")
    return tallies


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20, help="scans of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--width", type=float, default=0.45, help="of the grid, in columns")
    parser.add_argument("--quick", action="store_true", help="4 scans of each kind")
    options = parser.parse_args()
    n = 4 if options.quick else options.n
    measure(options.kinds, options.methods, n, options.seed, options.width)


if __name__ == "__main__":
    main()
