"""Movement along the axis: what is told of simulated scans, how exactly, and false alarms.

    python lab/benchmarks/bench_motion.py [--still 500] [--moved 300] [--seed 50000] [--cache DIR]

Scans of every family, condition and null of the suite (tomopipe_lab.suite), 128 to 1,024 px wide,
of 300, 2,000 and 20,000 photons a pixel, two fifths of them larger than the field of view; a fifth
in a beam that moves up or down. Moved ones jump, drift, or sink ever more slowly, by 1 to 6 rows.
Only row profiles and end projections are made, of frames whose columns are as wide as the means of
the profiler; --cache keeps them for further runs. The real scan has ten times the projections.
Contrast is the range of the true profile along the axis, less a parabola, over its mean. Motion is
above the noise if an ideal measurement of all profiles would show it at 5 sigma (Cramer-Rao).
"""

import argparse
import pickle
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray
from tomopipe_lab.suite import CONDITIONS, FAMILIES, NULLS, rasters
from tomopipe_lab.suite.case import angles, body
from tomopipe_lab.suite.damage import Instrument, Part, fringes, motion, random_walk
from tomopipe_lab.suite.nulls import NULLS_BY_NAME, null_frames
from tomopipe_lab.suite.sample import Sample, View
from tomopipe_lab.suite.settings import CONDITIONS_BY_NAME, Settings, base

from tomopipe.cor.axial_motion import AxialMotion, end_pairs, find_axial_motion
from tomopipe.cor.end_shift import EndShift, end_shifts
from tomopipe.cor.row_profiles import RowProfiler, RowProfiles
from tomopipe.recon.angular_sampling import mirrored_ends

KINDS = ("jump", "drift", "sink")
WIDTHS_PX, DOSES = (128, 256, 512, 1024), (300.0, 2000.0, 20000.0)
MOST_COLS, ANGLES = 64, (64, 100, 160)  # that are simulated
ROWS, MOST_ROWS_MOVED = (0.125, 0.25, 0.5), 6.0  # of the width
MOST_ROWS, MOST_RASTER_ROWS = 96, 32
REAL = 10  # projections to each profile
FINE, SPARE_ROWS = 2, 8  # heights in a row; rows beyond the detector
RASTERS, MOST_RASTER_FILL = 0.12, 1.5  # share of the scans; they take long
LOOKS, MOST_DRAWS = 6, 20  # angles that show the contrast; samples drawn for a scan with contrast
EXACT_ROWS = 0.3
CONTRAST, SIGMAS = 0.05, 5.0
ABOVE, IN_NOISE = ("5 %, above the noise",), ("5 %, in the noise",)
COVERED = 2, 3  # stated errors
NOT_HERE = ("single row", "grid misses", "dead pixels")  # columns here are many pixels wide
Floats = NDArray[np.float64]
Rng = np.random.Generator


@dataclass(frozen=True, eq=False)
class Scan:
    """Row profiles of a simulated scan and what is true of it."""

    profiles: RowProfiles
    theta_rad: Floats
    name: str
    is_truncated: bool
    kind: str  # of motion, or "still"
    shift_rows: float
    contrast: float
    swing_px: float  # of the sample to the sides, as it turns
    noise_rows: float  # error of an ideal measurement
    ends: NDArray[np.float32]  # line integrals: first and last projection, and beside these
    ends_rad: tuple[float, float]
    cor_px: float


def make_scan(seed: int, kind: str) -> Scan:
    """Simulate one scan that is still, or moves in one of `KINDS`."""
    rng = np.random.default_rng([seed, ("still", *KINDS).index(kind)])
    width_px, dose = int(rng.choice(WIDTHS_PX)), float(rng.choice(DOSES))
    if kind == "still" and rng.random() < 0.1:
        return _null(rng, width_px)
    s, condition = _settings(width_px, dose, rng)
    is_raster = rng.random() < RASTERS
    if is_raster:
        s = replace(s, fill=min(s.fill, MOST_RASTER_FILL), n_rows=min(s.n_rows, MOST_RASTER_ROWS))
        s = replace(s, n_angles=ANGLES[0])
    theta_rad = angles(s, rng)
    moved_rows, shift_rows = _course(kind, len(theta_rad), rng)
    step_rad = np.deg2rad(s.span_deg) / s.n_angles
    last = REAL * len(theta_rad) - (REAL if s.end_point else 1)
    at_ends = [0, last, 1, last - 1, 2, last - 2]
    taken = np.unique([*range(0, REAL * len(theta_rad), REAL), *at_ends])
    is_profile, time, profile = taken % REAL == 0, taken / REAL, np.arange(len(theta_rad))
    theta_rad = np.interp(time, profile, theta_rad) + step_rad * (time - profile[-1]).clip(0)
    moved_rows = np.interp(time, profile, moved_rows)
    heights_px = _heights_px(s, kind)
    families = [f for split in FAMILIES.values() for f in split]
    families = [f for f in families if (f.__module__ == rasters.__name__) == is_raster]
    looks = theta_rad[np.linspace(0, len(theta_rad) - 1, LOOKS).astype(int)]
    at_rows_px = heights_px[SPARE_ROWS * FINE : -SPARE_ROWS * FINE : FINE]
    truth = np.zeros(s.n_rows)
    for _ in range(MOST_DRAWS):
        family = families[int(rng.integers(len(families)))]
        sample = family(body(s, float(np.abs(heights_px).max()), rng), rng)
        if kind == "still":
            contrast = 0.0
            break
        truth = _lines(sample, s, looks, at_rows_px, rng).mean(axis=(0, 2), dtype=float)
        contrast = _contrast(truth)
        if contrast >= CONTRAST:
            break
    fine = _lines(sample, s, theta_rad, heights_px, rng)
    scale = s.depth / max(float(np.percentile(fine, 98)), 1e-9)
    fine *= np.float32(scale)
    lines = fringes(fine if kind == "still" else _seen(fine, moved_rows, s.n_rows), s.fringes)
    instrument = Instrument(s, len(theta_rad), rng)
    is_beam_moving = rng.random() < 0.2
    if is_beam_moving:
        lines = lines + _moving_beam(instrument, rng)
    every = Part(np.arange(len(theta_rad)), np.arange(s.n_rows))
    raw = instrument.counts(lines, every)
    flat, dark = instrument.flat_and_dark()
    ends = instrument.corrected(raw[np.searchsorted(taken, at_ends)], every, flat, dark)
    ends_rad = float(theta_rad[0]), float(theta_rad[-1])
    theta_rad, lines = theta_rad[is_profile], lines[is_profile]
    profiles = _profiles(raw[is_profile], flat, dark)
    name = (
        f"{seed} {family.__name__}, {condition}{', moving beam' if is_beam_moving else ''}, "
        f"{width_px} px, {s.n_rows} rows, {len(theta_rad)} angles over {s.span_deg:.0f} degrees, "
        f"{s.counts * s.n_cols / width_px:.0f} photons"
    )
    is_truncated = s.fill * s.reach_px > s.n_cols * (0.5 - abs(s.off))
    swing = width_px / 2 if is_truncated else _swing_px(lines, theta_rad) * width_px / s.n_cols
    noise_rows = 0.0 if kind == "still" else _noise_rows(scale * truth, profiles)
    motion_of = kind, shift_rows, contrast, swing, noise_rows
    at = ends, ends_rad, s.cor_px
    return Scan(profiles, theta_rad, name, is_truncated, *motion_of, *at)


def _settings(width_px: int, dose: float, rng: Rng) -> tuple[Settings, str]:
    """Draw how a scan is made; columns are averaged to `MOST_COLS`."""
    n_cols = min(width_px, MOST_COLS)
    col_px = width_px / n_cols
    condition = str(rng.choice([name for name in CONDITIONS if name not in NOT_HERE]))
    s = CONDITIONS_BY_NAME[condition](base(rng, n_cols), rng)
    if rng.random() < 0.35 and s.fill < 1 and abs(s.off) < 0.1:
        s = replace(s, fill=rng.uniform(1.05, 3))
    s = replace(
        s,
        counts=(s.counts if condition == "few photons" else dose) * col_px,
        n_cols=n_cols,
        n_rows=min(round(width_px * rng.choice(ROWS)), MOST_ROWS),
        n_angles=int(rng.choice(ANGLES)) * (2 if abs(s.span_deg) > 180 else 1),
        row_pitch_px=1 / col_px,
        # of columns that are averaged here: independent, or of some px
        thin_rings=s.thin_rings / np.sqrt(col_px),
        dust=s.dust / col_px,
        flat_shift_px=s.flat_shift_px / col_px,
    )
    return s, condition


def _null(rng: Rng, width_px: int) -> Scan:
    """Simulate a scan in which nothing rotates."""
    condition = str(rng.choice(NULLS))
    s = replace(base(rng, min(width_px, MOST_COLS)), n_rows=32)
    s = replace(s, **NULLS_BY_NAME[condition](rng))
    theta_rad = angles(s, rng)
    every = Part(np.arange(len(theta_rad)), np.arange(s.n_rows))
    instrument = Instrument(s, len(theta_rad), rng)
    raw, _ = null_frames(condition, instrument, every, every)
    flat, dark = instrument.flat_and_dark()
    ends = instrument.corrected(raw[[0, -1, 1, -2, 2, -3]], every, flat, dark)
    motion_of = "still", 0.0, 0.0, width_px / 2, 0.0
    at = ends, (float(theta_rad[0]), float(theta_rad[-1])), s.cor_px
    return Scan(_profiles(raw, flat, dark), theta_rad, condition, False, *motion_of, *at)


def _course(kind: str, n_angles: int, rng: Rng) -> tuple[Floats, float]:
    """Return the motion of each projection, and what is true of its size (rows)."""
    time = np.linspace(0, 1, n_angles)
    size = float(rng.choice([-1, 1]) * rng.uniform(1, MOST_ROWS_MOVED))
    if kind == "jump":
        first = round(n_angles * rng.uniform(0.08, 0.92))
        return size * (np.arange(n_angles) >= first), size
    if kind == "drift":
        return size * time, size
    if kind == "sink":
        course = 1 - np.exp(-time / rng.uniform(0.3, 1))
        return size * course / course[-1], size
    return np.zeros(n_angles), 0.0


def _heights_px(s: Settings, kind: str) -> Floats:
    """Return the heights that are simulated: of what moves finer, and beyond the detector."""
    if kind == "still":
        return (np.arange(s.n_rows) - (s.n_rows - 1) / 2) * s.row_pitch_px
    at = np.arange(FINE * (s.n_rows + 2 * SPARE_ROWS)) / FINE - SPARE_ROWS
    return (at - (s.n_rows - 1) / 2) * s.row_pitch_px


def _lines(
    sample: Sample, s: Settings, theta_rad: Floats, heights_px: Floats, rng: Rng
) -> NDArray[np.float32]:
    """Return line integrals (n_angles, n_heights, n_cols) of a sample that does not move up."""
    x, y, swell, jitter = motion(s, len(theta_rad), rng)
    moved_px = x * np.cos(theta_rad) - y * np.sin(theta_rad) + jitter
    cor_px = s.cor_px + moved_px[:, None] + np.tan(np.deg2rad(s.roll_deg)) * heights_px
    return sample.project(View(theta_rad, cor_px, swell, heights_px, s.n_cols))


def _seen(fine: NDArray[np.float32], moved_rows: Floats, n_rows: int) -> NDArray[np.float32]:
    """Return what the rows of the detector see of a sample that moves: means over their height."""
    frame = np.arange(len(fine))[:, None]
    total = np.zeros((len(fine), n_rows, fine.shape[2]), np.float32)
    for part in (-0.25, 0.25):
        at = (np.arange(n_rows) + part - moved_rows[:, None] + SPARE_ROWS) * FINE
        low = np.floor(at).astype(int)
        share = (at - low)[..., None].astype(np.float32)
        total += (1 - share) * fine[frame, low] + share * fine[frame, low + 1]
    return total / 2


def _moving_beam(instrument: Instrument, rng: Rng) -> NDArray[np.float32]:
    """Give the beam a profile along the rows; return what it adds to lines as the beam moves."""
    n_rows, n_angles = instrument.settings.n_rows, instrument.n_angles
    middle, deviation = n_rows * rng.uniform(0.3, 0.7), n_rows * rng.uniform(0.4, 1.5)
    period, phase, depth = rng.uniform(4, 30), rng.uniform(0, 6.283), rng.choice([0, 0.02, 0.1])
    moves = rng.uniform(0.2, 4) * random_walk(n_angles, rng)
    moves += rng.uniform(-3, 3) * (np.linspace(0, 1, n_angles) > rng.uniform(0.1, 0.9))

    def log_beam(rows: Floats) -> Floats:
        stripes = np.log1p(depth * np.sin(2 * np.pi * rows / period + phase))
        return np.asarray(stripes - ((rows - middle) / deviation) ** 2 / 2)

    rows = np.arange(n_rows, dtype=float)
    at_flats = log_beam(rows)
    instrument.open = instrument.open * np.exp(at_flats)[:, None]
    change = at_flats - log_beam(rows - moves[:, None])
    return np.asarray(change[..., None], dtype=np.float32)


def _profiles(
    raw: NDArray[np.float32], flat: NDArray[np.float32], dark: NDArray[np.float32]
) -> RowProfiles:
    """Return what try_recon keeps of raw frames."""
    n_frames, n_rows, n_cols = raw.shape
    profiler = RowProfiler(SimpleNamespace(flat=flat, dark=dark, n_cols=n_cols), minus_log=True)
    means = profiler.means(raw, (0, n_rows))
    return profiler.profiles(means, np.arange(n_frames), (0, n_rows))


def _swing_px(lines: NDArray[np.float32], theta_rad: Floats) -> float:
    """Return how far the centre of mass goes to the sides; few columns have too little air."""
    mass = lines.mean(axis=1, dtype=float)
    centre = mass @ np.arange(lines.shape[2]) / mass.sum(axis=1)
    design = np.stack([np.ones_like(theta_rad), np.cos(theta_rad), np.sin(theta_rad)], axis=1)
    return float(np.hypot(*np.linalg.lstsq(design, centre)[0][1:]))


def _contrast(profile: Floats) -> float:
    row = np.linspace(-1, 1, len(profile))
    return float(np.ptp(profile - np.polyval(np.polyfit(row, profile, 2), row)) / profile.mean())


def _noise_rows(truth: Floats, profiles: RowProfiles) -> float:
    """Return the error of the shift between two halves of a scan, brightness and tilt fitted."""
    row = np.linspace(-1, 1, len(truth))
    design = np.stack([np.gradient(truth), np.ones_like(row), row, row**2, truth], axis=1)
    noise = np.median(np.diff(profiles.values.astype(float), 2, axis=0).std(axis=0)) / np.sqrt(6)
    variance = np.linalg.pinv(design.T @ design)[0, 0]
    return float(noise * np.sqrt(4 * variance / len(profiles.values)))


def cached_scan(seed: int, kind: str, folder: Path | None) -> Scan:
    """Return a simulated scan, of an earlier run if there is one."""
    path = None if folder is None else folder / f"{kind}-{seed}.pkl"
    if path is not None and path.exists():
        scan: Scan = pickle.loads(path.read_bytes())
        return scan
    scan = make_scan(seed, kind)
    if path is not None:
        path.write_bytes(pickle.dumps(scan))
    return scan


def find_motion(scan: Scan) -> AxialMotion | None:
    """Find the motion of a scan, as predict_cor does."""
    ends, beside = list[EndShift](), list[Callable[[], list[EndShift]]]()
    is_mirrored = mirrored_ends(np.linspace(*scan.ends_rad, REAL * len(scan.theta_rad)))
    if is_mirrored is not None:
        mirror_px = scan.cor_px if is_mirrored else None
        pair, *others = end_pairs(scan.ends.astype(float))
        ends = end_shifts(*pair, mirror_px)
        beside = [partial(end_shifts, *other, mirror_px) for other in others]
    motion_of = scan.profiles, scan.theta_rad, scan.swing_px
    return find_axial_motion(*motion_of, None, ends, beside)


def contrast_of(scan: Scan) -> str:
    """Return how well motion shows in the true profile along the axis."""
    if scan.kind == "still":
        return "any"
    if scan.contrast < CONTRAST:
        return "less"
    return (ABOVE if abs(scan.shift_rows) >= SIGMAS * scan.noise_rows else IN_NOISE)[0]


def line_of(scan: Scan, found: AxialMotion | None) -> str:
    """Return a line on a scan and on what is told of it."""
    told = "nothing" if found is None else f"{found.shift_rows:+.2f} ± {found.error_rows:.2f} rows"
    where = f" between {found.between}" if found is not None and found.between else ""
    field = "larger than the field" if scan.is_truncated else "within the field"
    return (
        f"{scan.name}, {field}, contrast {scan.contrast:.3f}: {scan.kind} of "
        f"{scan.shift_rows:+.2f} (ideal error {scan.noise_rows:.2f}) rows, told {told}{where}"
    )


def shares(counts: dict[tuple[str, bool, str], Counter[str]]) -> list[str]:
    """Return how many scans with contrast are detected, with and without the noisy and the wide."""
    lines = [""]
    for contrasts in ABOVE, (*ABOVE, *IN_NOISE):
        for fields in ("within the field", [False]), ("larger, too", [False, True]):
            total = Counter[str]()
            for (_, is_truncated, contrast), count in counts.items():
                if is_truncated in fields[1] and contrast in contrasts:
                    total += count
            if scans := total["scans"]:
                share = f"{total['told']} of {scans} detected ({100 * total['told'] / scans:.1f} %)"
                where = f"{' and '.join(contrasts)}, {fields[0]}"
                lines.append(f"{where}: {share}, {total['exact']} of them to {EXACT_ROWS} row")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--still", type=int, default=500, help="scans that do not move")
    parser.add_argument("--moved", type=int, default=300, help="scans that move")
    parser.add_argument("--seed", type=int, default=50000, help="the first seed")
    parser.add_argument("--cache", type=Path, help="folder of simulated scans")
    parser.add_argument("--verbose", action="store_true", help="print false alarms and misses")
    args = parser.parse_args()
    counts, errors, seconds = defaultdict(Counter), defaultdict(list), []
    for number in range(args.still + args.moved):
        kind = "still" if number < args.still else KINDS[number % len(KINDS)]
        scan = cached_scan(args.seed + number, kind, args.cache)
        start = time.process_time()
        found = find_motion(scan)
        seconds.append(time.process_time() - start)
        is_exact = found is not None and abs(found.shift_rows - scan.shift_rows) <= EXACT_ROWS
        group = kind, scan.is_truncated, contrast_of(scan)
        between = int(found is not None and found.between is not None)
        counts[group].update(scans=1, told=int(found is not None), exact=int(is_exact), at=between)
        if found is not None:
            error_rows = abs(found.shift_rows - scan.shift_rows)
            errors[group].append(error_rows)
            counts[group].update({n: int(error_rows <= n * found.error_rows) for n in COVERED})
        if args.verbose and (found is not None if kind == "still" else not is_exact):
            print(line_of(scan, found), flush=True)
    titles = "motion | sample | contrast | told | as a jump | size within 0.3 row | median, 90 %"
    print(f"| {titles} | within 2, 3 of its errors |")
    print("|---|---|---|---|---|---|---|---|")
    for group, count in sorted(counts.items(), key=str):
        kind, is_truncated, contrast = group
        field = "larger than the field" if is_truncated else "within the field"
        told = count["told"]
        line = f"| {kind} | {field} | {contrast} | {told} of {count['scans']} | {count['at']} |"
        if kind != "still" and told:
            half, most = np.quantile(errors[group], [0.5, 0.9])
            line += f" {count['exact']} of {told} | {half:.2f}, {most:.2f} |"
            line += f" {', '.join(str(count[n]) for n in COVERED)} |"
        print(line)
    print(*shares(counts), sep="\n")
    print(f"\n{1e3 * np.median(seconds):.0f} ms of CPU a scan to find it, without the simulation")


if __name__ == "__main__":
    main()
