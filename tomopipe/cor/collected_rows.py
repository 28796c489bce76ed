"""rows.h5: the few rows and opposing projections of a scan that COR finding and review use."""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tomopipe.arrays import evenly_spread
from tomopipe.config import PreprocessBlock
from tomopipe.cor.row_profiles import FREE_BYTES, RowProfiler, RowProfiles, by_beam, still
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.paths import no_pipe
from tomopipe.prep.bad_pixels import ConstantFrames, find_bad_frames, warnings_of
from tomopipe.prep.correct import (
    Corrections,
    blocks_for_slopes,
    corrections_of,
    frames_for_slopes,
    measure_edge_slopes,
)
from tomopipe.prep.flats import Beam, read_beam
from tomopipe.prep.normalise import normalise
from tomopipe.prep.recipe import geometry_only
from tomopipe.prep.shifts import read_shifts
from tomopipe.recon.angular_sampling import mirrored_ends
from tomopipe.scans.block_means import band_of, block_means, column_means
from tomopipe.scans.scan import Scan
from tomopipe.scans.stated_motion import without_shifts
from tomopipe.storage.atomic import whole
from tomopipe.storage.hdf5_files import new_hdf5, put

if TYPE_CHECKING:
    import h5py

FORMAT = 2
# of each dataset its type and dimensions
_STORED: dict[str, tuple[Any, int]] = {
    "sinograms": (np.float32, 3),
    "row_index": (np.int64, 1),
    "theta_rad": (np.float64, 1),
    "pairs": (np.float32, 4),
    "pair_theta_rad": (np.float64, 2),
    "n_rows": (np.int64, 0),
    "first_col": (np.int64, 0),
    "theta_missing": (np.bool_, 0),
    "minus_log": (np.bool_, 0),
}
_OPTIONAL: dict[str, tuple[Any, int]] = {
    "plain_sinograms": (np.float32, 3),
    "flat_levels": (np.float64, 1),
    "dark_levels": (np.float64, 1),
    "flat_parts": (np.float32, 3),
    "flat_positions": (np.float64, 1),
    "image_parts": (np.float32, 3),
    "flat_lines": (np.float32, 2),
    "n_stuck": (np.int64, 0),
    "dark_rows": (np.int64, 1),
    "numbers": (np.int64, 1),
    "ends": (np.float32, 3),
}


@dataclass(frozen=True, eq=False)
class Rows:
    """Corrected rows and projections of a scan that try_recon keeps, with unbinned columns.

    Only the columns in use; a COR in them is that of the detector minus `first_col`.
    """

    # (n_kept, n_angles, n_cols): the try row first, then a few more spread over the height;
    # corrected as for the volume
    sinograms: NDArray[np.float32]
    row_index: NDArray[np.int64]  # (n_kept,): detector rows of `sinograms`, 0-based
    # (n_angles,): angles; made up (0 to pi) when `theta_missing`
    theta_rad: NDArray[np.float64]
    # (n_pairs, 2, n_pair_rows, n_cols): opposing projections, averaged over blocks of rows to at
    # most 256 rows; n_pairs may be 0
    pairs: NDArray[np.float32]
    # (n_pairs, 2): their angles, the second within half a step of the first + pi
    pair_theta_rad: NDArray[np.float64]
    n_rows: int  # rows of the detector
    theta_missing: bool = False  # whether the angles are assumed
    minus_log: bool = True  # whether values are line integrals, not transmission
    failed: str = ""  # why try_recon failed, or ""; the arrays are empty then
    first_col: int = 0  # column of the detector that is the first one here
    # (n_kept, n_angles, n_cols): `sinograms` with flat, dark, logarithm, distortion and roll
    # corrected and nothing else; None: they are the same
    plain_sinograms: NDArray[np.float32] | None = None
    # share of their value that rows lose per column at both edges (`tomopipe.prep.correct`); 0:
    # unknown
    edge_slopes_per_px: tuple[float, float] = (0.0, 0.0)
    # of each kind (`tomopipe.prep.bad_pixels`) the numbers of the projections that hold no picture;
    # None: not looked for
    bad_frames: Mapping[str, Sequence[int]] | None = None
    # (n,): mean of each flat and each dark, raw; empty: there are none; None: not known
    flat_levels: NDArray[np.float64] | None = None
    dark_levels: NDArray[np.float64] | None = None
    # (n_flats, n_kept, n_parts): means of blocks of each flat about `row_index`, less the dark; and
    # (n_flats,): how many projections were taken before it, NaN: not known; None: not read
    flat_parts: NDArray[np.float32] | None = None
    flat_positions: NDArray[np.float64] | None = None
    # (n_some, n_kept, n_parts): transmission of some projections by the mean flat, averaged alike
    image_parts: NDArray[np.float32] | None = None
    flat_lines: NDArray[np.float32] | None = None  # (n_kept, n_cols): mean flat less the dark
    n_stuck: int = 0  # pixels of the detector that are `tomopipe.scans.scan.Scan.stuck`
    # (n_angles,): numbers of the projections, as recorded; None: not known
    numbers: NDArray[np.int64] | None = None
    dark_rows: NDArray[np.int64] | None = None  # rows of the detector without light; None: none
    profiles: RowProfiles | None = None  # None: reading them would take too long
    # (2, 4 or 6, n_pair_rows, n_cols): first and last projection, averaged like `pairs`, where they
    # see the same (`tomopipe.cor.end_shift`), and the next one or two to each if these are soon
    # read; None: they do not, or reading them would take too long
    ends: NDArray[np.float32] | None = None
    stated_motion: tuple[str, ...] = ()  # how far the sample moves, by the file

    @property
    def numbers_or_places(self) -> NDArray[np.int64]:
        """Numbers of the projections (n_angles,), as recorded; their places if not known."""
        return np.arange(len(self.theta_rad)) if self.numbers is None else self.numbers

    def plain(self) -> "Rows":
        """Return the rows for COR finding: only with the corrections of `plain_sinograms`."""
        if self.plain_sinograms is None:
            return self
        return replace(self, sinograms=self.plain_sinograms, plain_sinograms=None)


def failed_rows(reason: str) -> Rows:
    """Return the record of a scan whose rows could not be made, and why (not empty)."""
    arrays: Any = {
        name: np.zeros((0,) * ndim, dtype) for name, (dtype, ndim) in _STORED.items() if ndim
    }
    return Rows(**arrays, n_rows=0, failed=reason)


def write_rows(
    rows: Rows, path: str | os.PathLike[str], *, made_from: Mapping[str, Any] | None = None
) -> None:
    """Write rows whole to an HDF5 file; equal rows give equal content.

    Parameters
    ----------
    rows : Rows
        As `collect_rows` returns them.
    path : path
        The file, which is replaced.
    made_from : mapping, optional
        The statement of what they were made from.
    """
    with whole(path) as temporary, new_hdf5(temporary) as file:
        file.attrs["format"] = FORMAT
        if made_from:
            file.attrs["made_from"] = json.dumps(made_from, sort_keys=True)
        for name, (dtype, _) in (_STORED | _OPTIONAL).items():
            values = getattr(rows, name)
            if values is not None and (name != "n_stuck" or values):
                put(file, name, np.asarray(values, dtype=dtype))
        for name, values in vars(rows.profiles).items() if rows.profiles else ():
            put(file, f"profiles/{name}", values)
        put(file, "falls_per_px", np.asarray(rows.edge_slopes_per_px, dtype=np.float64))
        for kind, numbers in sorted((rows.bad_frames or {}).items()):
            put(file, f"bad_frames/{kind}", np.asarray(numbers, dtype=np.int64))
        for number, text in enumerate(rows.stated_motion):
            put(file, f"stated_motion/{number}", np.frombuffer(text.encode(), dtype=np.uint8))
        # As bytes: HDF5 strings hold neither NUL nor the undecodable bytes of a file name.
        reason = rows.failed.encode("utf-8", "surrogateescape")
        put(file, "failed", np.frombuffer(reason, dtype=np.uint8))


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Read a file of `write_rows` into memory.

    Parameters
    ----------
    path : path
        rows.h5 of try_recon.

    Returns
    -------
    Rows
        Detector rows as sinograms (n_kept, n_angles, n_cols), with their angles.
    """
    import h5py

    if not Path(path).exists():
        raise TomopipeError(f"{path}: no such file. Run try_recon of this scan.")
    try:
        with h5py.File(no_pipe(path), "r") as file:
            return _read(file, path)
    except (OSError, KeyError) as error:
        raise TomopipeError(
            f"{path}: expected an HDF5 file written by try_recon; got {error}. "
            "Delete it and run try_recon again."
        ) from error


def _read(file: "h5py.File", path: str | os.PathLike[str]) -> Rows:
    if file.attrs.get("format") != FORMAT:
        raise TomopipeError(
            f"{path}: expected rows of format {FORMAT}; got {file.attrs.get('format')}. "
            "Delete it and run try_recon again."
        )
    bad, (left, right) = file.get("bad_frames"), file["falls_per_px"][()].tolist()
    values: dict[str, Any] = {}
    for name, (dtype, ndim) in (_STORED | _OPTIONAL).items():
        if name in _STORED or name in file:
            stored = file[name][()].astype(dtype, copy=False)
            values[name] = stored if ndim else stored.item()
    stored_profiles = file.get("profiles") or {}
    moves = file.get("stated_motion") or {}
    profiles = {name: stored[()] for name, stored in stored_profiles.items()}
    return Rows(
        **values,
        profiles=RowProfiles(**profiles) if profiles else None,
        stated_motion=tuple(moves[name][()].tobytes().decode() for name in moves),
        failed=file["failed"][()].tobytes().decode("utf-8", "surrogateescape"),
        edge_slopes_per_px=(left, right),
        bad_frames=bad and {kind: tuple(numbers[()].tolist()) for kind, numbers in bad.items()},
    )


N_KEPT = 5  # rows kept, including the requested ones
N_PAIRS = 3
MAX_PAIR_ROWS = 256
_N_IMAGES = 48  # projections that flats are compared with
READ_BYTES = 256 * 2**20
"""Bytes of whole frames that are read at a time."""
_MOST_ENDS = 0.01  # share of the projections that are ends; as much is read, or `FREE_BYTES` / 2

logger = logging.getLogger(__name__)


def collect_rows(
    scan: Scan,
    requested_rows: Sequence[int],
    recipe: PreprocessBlock,
    *,
    threads: int = 1,
    lit: NDArray[np.bool_] | None = None,
    beam: Beam | None = None,
) -> Rows:
    """Read the rows and opposing projections of an open scan, and correct them.

    `requested_rows` come first, then a few more (`spread_rows`), of those that are `lit` (None:
    all). The file is read once, or twice if a correction needs the rows around those that are kept.
    A ScanError says that the data were never written or hold no signal.
    """
    row_index = spread_rows(requested_rows, scan.n_rows, lit=lit)
    pairs, ends = whole_frames(scan, row_index)
    logger.info("reading rows %s and %d opposing pairs", row_index, len(pairs))
    profiler = RowProfiler(scan, minus_log=recipe.minus_log, threads=threads)
    of_pairs = set(pairs.ravel().tolist())
    raw_rows, raw_frames, for_slopes, profiles = _read_once(
        scan, row_index, sorted({*of_pairs, *ends}), profiler, len({*ends} - of_pairs)
    )
    constant = ConstantFrames(len(raw_rows))
    constant.look(raw_rows)
    constant.refuse(scan.numbers)
    bad_frames = _bad_frames(scan, row_index, raw_rows, raw_frames, recipe, lit)
    geometry, beam = geometry_only(recipe), beam or read_beam(scan, recipe)
    plain = corrections = corrections_of(scan, geometry, beam)
    plain_sinograms = sinograms = _correct_rows(scan, plain, row_index, raw_rows, threads)
    if np.ptp(sinograms[0]) == 0:
        level = f"{float(sinograms[0, 0, 0]) + 0.0:g}"  # 0, not -0
        others = [str(k) for k, part in zip(row_index, sinograms, strict=True) if np.ptp(part) > 0]
        remedy = f"one that has some, such as {', '.join(others)}" if others else "another row"
        raise ScanError(
            f"no signal: row {row_index[0]} is {level} everywhere; set try_recon.row to {remedy}"
        )
    averaged = {}
    for frame, raw in raw_frames.items():
        averaged[frame] = _corrected(plain, raw, frame, lit)
    n_pair_rows = -(-scan.n_rows // -(-scan.n_rows // MAX_PAIR_ROWS))
    pair_images = [averaged[frame] for frame in pairs.ravel().tolist()]
    if recipe != geometry:
        corrections = corrections_of(scan, recipe, beam)
        sinograms = _correct_rows(scan, corrections, row_index, raw_rows, threads)
    if len(beam.shapes) and recipe.minus_log:  # else its motion is the sample's
        profiles = by_beam(profiles, beam, scan.flat)
    return Rows(
        sinograms=sinograms,
        row_index=np.array(row_index, dtype=np.int64),
        theta_rad=np.asarray(scan.theta_rad, dtype=np.float64),
        pairs=np.array(pair_images, dtype=np.float32).reshape(-1, 2, n_pair_rows, scan.n_cols),
        pair_theta_rad=np.asarray(scan.theta_rad, dtype=np.float64)[pairs],
        n_rows=scan.n_rows,
        first_col=scan.first_col,
        minus_log=recipe.minus_log,
        plain_sinograms=None if recipe == geometry else plain_sinograms,
        edge_slopes_per_px=measure_edge_slopes(scan, corrections, for_slopes),
        bad_frames=bad_frames,
        flat_levels=_flat_levels(scan, recipe),
        dark_levels=scan.dark_levels,
        **_parts(scan, row_index, raw_rows),
        n_stuck=int(np.count_nonzero(scan.stuck)),
        numbers=np.asarray(scan.numbers, dtype=np.int64),
        dark_rows=None if lit is None or lit.all() else np.flatnonzero(~lit),
        profiles=still(profiles, read_shifts(recipe, scan)[1]) if recipe.shifts else profiles,
        ends=np.stack([averaged[frame] for frame in ends]) if ends else None,
        stated_motion=without_shifts(scan.stated_motion) if recipe.shifts else scan.stated_motion,
    )


def corrected_frames(
    scan: Scan,
    frames: Sequence[int],
    recipe: PreprocessBlock,
    lit: NDArray[np.bool_] | None = None,
    beam: Beam | None = None,
) -> NDArray[np.float32]:
    """Read and correct further projections, (n, n_pair_rows, n_cols), as `Rows.pairs` are."""
    plain = corrections_of(scan, geometry_only(recipe), beam)
    raw = zip(frames, scan.read_frames(frames), strict=True)
    return np.stack([_corrected(plain, image, frame, lit) for frame, image in raw])


def _corrected(
    plain: Corrections, raw: NDArray[Any], frame: int, lit: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    """Correct a projection, and average its rows."""
    image = plain.projections(raw[None], (frame, frame + 1), (0, plain.n_rows))[0]
    if lit is not None:  # noise over noise
        image[~lit] = 0 if plain.recipe.minus_log else 1
    return _average_rows(image)


def most_ends(n_angles: int) -> int:
    """Return how many of the first and last projections are kept at most: 2, 4 or 6.

    Of few projections the third one has turned too far to see the same as the first.
    """
    return 2 * int(np.clip(_MOST_ENDS * n_angles // 2, 1, 3))


def whole_frames(scan: Scan, rows: Sequence[int]) -> tuple[NDArray[np.intp], list[int]]:
    """Return the projections that are read whole beside these rows: opposing pairs, and ends.

    The ends are the first and the last one if they see the same, and up to two beside each of
    them, as far as they are soon read.
    """
    theta_rad = np.asarray(scan.theta_rad)
    pairs = opposing_pairs(theta_rad)
    if mirrored_ends(theta_rad) is None:
        return pairs, []
    last, most = scan.n_angles - 1, _MOST_ENDS * scan.n_angles
    n_free = FREE_BYTES / 2 / (scan.n_rows * scan.n_cols * scan.dtype.itemsize)
    for n_ends in range(most_ends(scan.n_angles), 0, -2):
        ends = [0, last, 1, last - 1, 2, last - 2][:n_ends]
        n_more = len({*ends} - {*pairs.ravel().tolist()}) * (scan.chunks or (1,))[0]
        if reads_whole(scan, rows) or n_more <= max(most, n_free):
            return pairs, ends
    return pairs, []


def reads_whole(scan: Scan, rows: Sequence[int]) -> bool:
    """Tell whether reading row by row would decompress chunks more often than reading frames."""
    chunk = scan.chunks
    return chunk is not None and chunk[0] < np.bincount([row // chunk[1] for row in rows]).max()


def _flat_levels(scan: Scan, recipe: PreprocessBlock) -> NDArray[np.float64]:
    """Return the level of each flat; with the median of flats, their median level."""
    levels = scan.flat_levels
    if len(levels) and (recipe.flat_method == "median" or recipe.air_px):
        return np.full_like(levels, np.median(levels))
    return levels


def _parts(scan: Scan, row_index: Sequence[int], raw_rows: NDArray[Any]) -> dict[str, Any]:
    """Return what shows a sample in flats, or others (`tomopipe.cor.sample_in_flats`)."""
    if not scan.n_flats:
        return {}
    bands = band_of(np.array(row_index), scan.n_rows)
    some = raw_rows[evenly_spread(len(raw_rows), _N_IMAGES)]
    flat, dark = scan.flat[row_index], scan.dark[row_index]
    images = normalise(some, flat, dark, minus_log=False)
    return {
        "flat_lines": (flat - dark).astype(np.float32),
        "flat_parts": (scan.flat_blocks - block_means(scan.dark))[:, bands].astype(np.float32),
        "flat_positions": scan.flat_positions,
        "image_parts": column_means(images).astype(np.float32),
    }


def _bad_frames(
    scan: Scan,
    row_index: Sequence[int],
    raw_rows: NDArray[Any],
    raw_frames: Mapping[int, NDArray[Any]],
    recipe: PreprocessBlock,
    lit: NDArray[np.bool_] | None,
) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the projections without an image, by kind; log warnings of them."""
    used = slice(None) if lit is None or not lit.any() else lit
    has_flats = scan.n_flats > 0 and recipe.minus_log  # else values are not raw counts
    flat, dark = scan.flat, scan.dark
    if scan.stuck.any():  # they saturate no projection
        raw_rows = np.where(scan.stuck[row_index], 0, raw_rows).astype(raw_rows.dtype)
        raw_frames = {
            frame: np.where(scan.stuck, 0, image).astype(image.dtype)
            for frame, image in raw_frames.items()
        }
    result = find_bad_frames(raw_rows, flat[row_index], dark[row_index], has_flats=has_flats)
    bad = {kind: set(frames.tolist()) for kind, frames in result.items()}
    for frame, image in raw_frames.items():
        if not any(frame in frames for frames in bad.values()):
            part = image[None, used]
            in_image = find_bad_frames(part, flat[used], dark[used], has_flats=has_flats)
            for kind, numbers in in_image.items():
                bad[kind] |= {frame} if len(numbers) else set()
    bad_numbers = {k: tuple(scan.numbers[sorted(frames)].tolist()) for k, frames in bad.items()}
    for warning in warnings_of(bad_numbers, scan.n_angles):
        logger.warning("%s", warning)
    return bad_numbers


def _correct_rows(
    scan: Scan,
    corrections: Corrections,
    row_index: Sequence[int],
    raw_rows: NDArray[Any],
    threads: int,
) -> NDArray[np.float32]:
    """Correct rows to keep, (n_kept, n_angles, n_cols), reading those around where needed."""
    sinograms = np.empty((len(row_index), scan.n_angles, scan.n_cols), np.float32)
    spans = [corrections.rows_needed((row, row + 1)) for row in row_index]
    if all(span == (row, row + 1) for row, span in zip(row_index, spans, strict=True)):
        for i, row in enumerate(row_index):
            raw = raw_rows[:, i : i + 1]
            sinograms[i] = corrections.sinograms(raw, (row, row + 1), threads=threads)[0]
        return sinograms
    chunk = scan.chunks or (1, 1)
    first_row, last_row = min(span[0] for span in spans), max(span[1] for span in spans)
    # a read then decodes all rows anyway
    together = chunk[1] >= (last_row - first_row) // 2 and not all(map(scan.has_rows, spans))
    most_rows = last_row - first_row if together else max(span[1] - span[0] for span in spans)
    frame_bytes = most_rows * scan.n_cols * np.dtype(scan.dtype).itemsize
    step = max(1, READ_BYTES // 4 // (frame_bytes * chunk[0])) * chunk[0]
    for first in range(0, scan.n_angles, step):
        frames = first, min(first + step, scan.n_angles)
        block = scan.read_block(frames, (first_row, last_row)) if together else None
        for sinogram, row, span in zip(sinograms, row_index, spans, strict=True):
            if block is None:
                raw = scan.read_block(frames, span)
            else:
                raw = block[:, span[0] - first_row : span[1] - first_row]
            done = corrections.each_projection(raw, frames, (row, row + 1), threads=threads)
            sinogram[slice(*frames)] = done[0]
        logger.info("corrected %d of %d frames", frames[1], scan.n_angles)
    corrections.correct_rows(sinograms, row_index, threads)
    return sinograms


def spread_rows(
    requested_rows: Sequence[int],
    n_rows: int,
    n_kept: int = N_KEPT,
    lit: NDArray[np.bool_] | None = None,
) -> list[int]:
    """Add rows to those asked for until there are `n_kept`, each far from the others.

    Parameters
    ----------
    requested_rows : sequence of int
        Detector rows that are kept in any case, in their order, without repetition.
    n_rows : int
        Rows of the detector.
    n_kept : int
        Rows to return, if the detector has so many.
    lit : ndarray of bool, shape (n_rows,), optional
        Rows that may be added; None: all.

    Returns
    -------
    list of int
        The added ones lie in the inner 80 % of the height while they can, as beams fade towards the
        edges.
    """
    row_index = list(dict.fromkeys(requested_rows))
    margin = n_rows // 10
    usable = range(n_rows) if lit is None or not lit.any() else np.flatnonzero(lit).tolist()
    while len(row_index) < n_kept:
        others = [row for row in usable if row not in row_index]
        free = [row for row in others if margin <= row < n_rows - margin] or others
        if not free:
            break
        row_index.append(max(free, key=lambda r: min(abs(r - other) for other in row_index)))
    return row_index


def opposing_pairs(theta_rad: NDArray[np.float64]) -> NDArray[np.intp]:
    """Find opposing projections, 180 degrees apart to within half a step.

    Parameters
    ----------
    theta_rad : array_like of float, shape (n_angles,)
        In any order.

    Returns
    -------
    ndarray of int, shape (n_found, 2)
        Numbers of frames; the second is at the larger angle. At most `N_PAIRS`, spread over the
        scan.
    """
    theta_rad = np.asarray(theta_rad, dtype=np.float64)
    if theta_rad.size < 2:
        return np.zeros((0, 2), dtype=np.intp)
    half_step = np.median(np.diff(np.sort(theta_rad))) / 2
    order = np.argsort(theta_rad % (2 * np.pi), kind="stable")
    folded = (theta_rad % (2 * np.pi))[order]
    # Once more on each side, so that the nearest angle is found across 0.
    ring = np.concatenate([folded - 2 * np.pi, folded, folded + 2 * np.pi])
    target = (theta_rad + np.pi) % (2 * np.pi)
    right = np.searchsorted(ring, target).clip(1, ring.size - 1)
    nearest = np.where(target - ring[right - 1] <= ring[right] - target, right - 1, right)
    partner = order[nearest % theta_rad.size]
    opposing = np.abs(ring[nearest] - target) <= half_step + 1e-9
    first = np.flatnonzero(opposing & (theta_rad[partner] > theta_rad))
    first = first[np.argsort(theta_rad[first], kind="stable")]
    n_pairs = min(N_PAIRS, first.size)
    chosen = first[np.arange(n_pairs) * first.size // n_pairs]
    return np.stack([chosen, partner[chosen]], axis=1)


def _read_once(
    scan: Scan, rows: Sequence[int], frames: Sequence[int], profiler: RowProfiler, n_more: int
) -> tuple[
    NDArray[Any], dict[int, NDArray[Any]], dict[int, list[NDArray[Any]]], RowProfiles | None
]:
    """Read rows (n_angles, n_kept, n_cols), whole frames and row profiles, with few decodings.

    Third are blocks for `measure_edge_slopes` of frames that are read anyway. The profiles may take
    as much less as `n_more` of the frames do.
    """
    if not reads_whole(scan, rows):
        sinograms = [scan.read_rows(row, row + 1) for row in rows]
        images: Sequence[NDArray[Any]] = list(scan.read_frames(frames)) if frames else []
        raw_frames = dict(zip(frames, images, strict=True))
        profiles = profiler.read(raw_frames, n_more)
        return np.concatenate(sinograms, axis=1), raw_frames, {}, profiles
    everything = np.arange(scan.n_angles)
    if (shared := scan.read_shared(rows)) is not None:
        raw, means = shared
        raw_frames = dict(zip(frames, scan.read_frames(frames), strict=True))
        return raw, raw_frames, {}, profiler.profiles(means, everything, (0, scan.n_rows))
    raw = np.empty((scan.n_angles, len(rows), scan.n_cols), dtype=scan.dtype)
    whole_images: dict[int, NDArray[Any]] = {}
    for_slopes: dict[int, list[NDArray[Any]]] = {}
    means = np.empty((scan.n_angles, scan.n_rows), np.float32)
    for first, last in in_parts(scan, scan.n_angles):
        block = scan.read_frames(range(first, last))
        raw[first:last] = block[:, rows]
        means[first:last] = profiler.means(block, (0, scan.n_rows))
        for frame in frames:
            if first <= frame < last:
                whole_images[frame] = block[frame - first].copy()
        for frame in frames_for_slopes(scan):
            if first <= frame < last:
                parts = blocks_for_slopes(block[frame - first])
                for_slopes[frame] = [part.copy() for part in parts]
        logger.info("read %d of %d frames", last, scan.n_angles)
    profiles = profiler.profiles(means, everything, (0, scan.n_rows))
    return raw, whole_images, for_slopes, profiles


def in_parts(scan: Scan, n_frames: int) -> Iterator[tuple[int, int]]:
    """Yield which whole frames to read at a time: each chunk once, in a limited memory."""
    frame_bytes = scan.n_rows * scan.n_cols * np.dtype(scan.dtype).itemsize
    deep = (scan.chunks or (1,))[0]
    step = max(1, READ_BYTES // (frame_bytes * deep)) * deep
    for first in range(0, n_frames, step):
        yield first, min(first + step, n_frames)


def _average_rows(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average blocks of rows so that at most `MAX_PAIR_ROWS` remain; the last may be smaller."""
    block = -(-len(image) // MAX_PAIR_ROWS)
    starts = np.arange(0, len(image), block)
    counts = np.diff([*starts, len(image)])
    totals = np.add.reduceat(image, starts, axis=0)
    return (totals / counts[:, None]).astype(np.float32)
