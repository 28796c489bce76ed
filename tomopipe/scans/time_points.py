"""Time points of a scan: windows of its projections that are scans of their own (`turns`)."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from tomopipe.config import InputBlock
from tomopipe.config.blocks import Turns, Windows
from tomopipe.errors import ScanError, ScanFaultError, naming
from tomopipe.scans.chunks import IndexRange
from tomopipe.scans.datasets import find_dataset
from tomopipe.scans.formats import HDF5, Path, format_of
from tomopipe.scans.layout import KEYS, Layout, Reference
from tomopipe.scans.layout_options import with_angles
from tomopipe.scans.pixels import Frames, MirroredPixels, stored_dataset
from tomopipe.scans.raw_identity import frame_sampler
from tomopipe.scans.turns import regular_runs, regular_step_deg

_AT_END = 0.05  # of a step: angles of a whole turn miss it by no more
_WHOLE = 1.5  # steps that a window may be short of the turn: its last step is not among its angles


@dataclass(frozen=True)
class TimePoint:
    """A window of projections."""

    span: IndexRange  # its first and last projection, both included
    content: str = ""  # a fingerprint
    refused: str = ""  # why it is not whole


def time_points_of(
    path: Path,
    turns: Turns,
    options: InputBlock,
    monitor: str | None = None,
    *,
    uses_positions: bool = False,
) -> list[TimePoint]:
    """Return the time points of an HDF5 file, the last one refused if it is not whole.

    `monitor` is the dataset of `preprocess.ring_current`, `uses_positions` whether shifts are those
    that the file states. A ScanError if the file has no time points, or cannot be read.
    """
    with ExitStack() as stack, naming(path):
        if format_of(path) is not HDF5:
            raise ScanFaultError("`turns` is for HDF5 files: leave it out for this one")
        some = options.model_copy(update={"window": [0, 0]})
        reader = HDF5.load().open_reader(path, some, stack)
        layout = with_angles(reader.layout(), options)
        written = np.flatnonzero(layout.projections.written)
        n_written = int(written[-1]) + 1 if len(written) else 0
        points = windows(layout.theta_deg, n_written, turns)
        if not uses_positions:
            layout = replace(layout, sample_positions=())
        content = _content_of(layout, _references(reader.references), monitor)
        return [replace(point, content=content(point.span)) for point in points]


def windows(theta_deg: NDArray[np.float64] | None, n_written: int, turns: Turns) -> list[TimePoint]:
    """Return the windows of projections, of which `n_written` are there.

    Parameters
    ----------
    theta_deg : ndarray of float64, shape (n_angles,), or None
        Angles of the projections, in the order of acquisition; more of them may be planned.
    n_written : int
        Projections recorded so far.
    turns : 180, 360 or Windows
        As `turns` in campaign.scans.

    Returns
    -------
    list of TimePoint
        In the order of acquisition; the last one of a run may be refused.

    Raises
    ------
    ScanFaultError
        If the projections are not ordered so.
    """
    if isinstance(turns, Windows):
        return _counted(n_written, turns)
    if theta_deg is None:
        raise ScanFaultError(
            f"turns: {turns} needs angles: set input.angles, or turns: {{n_angles: 180}}"
        )
    theta_deg = theta_deg[:n_written]
    straight_deg = np.unwrap(theta_deg, period=360)
    step_deg = regular_step_deg(straight_deg)
    if step_deg is None or not np.isfinite(theta_deg).all():
        step = float(np.median(np.abs(np.diff(straight_deg)))) if n_written > 1 else 0.0
        raise ScanFaultError(
            f"turns: {turns} needs angles in order, that go on or begin again; the usual step of "
            f"these {n_written} is {step:.4g} degrees. Set turns: {{n_angles: N}} to the number of "
            "projections of a time point"
        )
    result, runs = [], regular_runs(straight_deg, step_deg)
    for run in runs:
        result += _turned(straight_deg, run, float(turns), step_deg)
    if not result:
        raise ScanFaultError(f"turns: {turns}: no regular angles among {n_written} projections")
    first, last = int(runs[-1][-1]) + 1, n_written - 1
    if first <= last:  # too few for a run
        n = last + 1 - first
        refused = f"{n} projection{'s' * (n > 1)} of the next {turns} degrees so far"
        result.append(TimePoint((first, last), refused=refused))
    return result


def _counted(n_written: int, turns: Windows) -> list[TimePoint]:
    """Return windows of equal number; the first that is not whole is the last one."""
    n, step, result = turns.n_angles, turns.step or turns.n_angles, []
    for first in range(turns.start, n_written, step):
        last = min(first + n, n_written) - 1
        missing = first + n - 1 - last
        refused = f"{n - missing} of {n} projections so far" * (missing > 0)
        result.append(TimePoint((first, last), refused=refused))
        if missing:
            break
    if not result:
        raise ScanFaultError(
            f"turns: {{start: {turns.start}}}: the file has {n_written} projections so far"
        )
    return result


def _turned(
    straight_deg: NDArray[np.float64], run: NDArray[np.intp], turn_deg: float, step_deg: float
) -> list[TimePoint]:
    """Return the windows of a run; one projection that closes its last turn is in none."""
    away_deg = np.abs(straight_deg[run] - straight_deg[run[0]])
    numbers = np.floor((away_deg + _AT_END * step_deg) / turn_deg).astype(int)
    edges = [*np.searchsorted(numbers, range(int(numbers[-1]) + 1)).tolist(), len(run)]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-1]
    result = []
    for first, after in pairwise(edges):
        last = after - 1
        covered_deg = float(away_deg[last] - away_deg[first])
        is_whole = after < edges[-1] or covered_deg >= turn_deg - _WHOLE * step_deg
        refused = f"{covered_deg + step_deg:.0f} of {turn_deg:.0f} degrees so far"
        span = int(run[first]), int(run[last])
        result.append(TimePoint(span, refused="" if is_whole else refused))
    return result


def _references(find: Callable[..., list[Reference]]) -> list[Frames]:
    """Return the flats and darks of the file; the inventory says if they are missing."""
    result = []
    for kind in KEYS:
        try:
            result += [reference.frames for reference in find(kind)]
        except ScanError:
            continue
    return result


def _monitor_of(layout: Layout, monitor: str | None) -> NDArray[np.float64]:
    """Return the values of a monitor; none where there is none, which the jobs report."""
    try:
        data = find_dataset(layout.file, monitor) if monitor and layout.file else None
    except ScanError:
        data = None
    return np.zeros(0) if data is None else np.asarray(data[()], float).ravel()


def _content_of(
    layout: Layout, references: list[Frames], monitor: str | None
) -> Callable[[IndexRange], str]:
    """Return a function that returns the fingerprint of a window: `window:<digest>`.

    It covers type, shape, mirroring, places and samples of its frames, its angles, positions of the
    sample and monitor, and all flats and darks.
    """
    projections = layout.projections
    sample = frame_sampler(stored_dataset(projections.pixels))
    shared = xxhash.xxh3_128()
    for frames in references:
        of_reference = frame_sampler(stored_dataset(frames.pixels))
        for part in of_reference(int(frames.index[0]), int(frames.index[-1]) + 1):
            shared.update(part)
    numbers = (layout.pixel_size_um, layout.energy_kev, layout.distance_mm, layout.height_mm)
    pixels = projections.pixels
    sides = sorted(pixels.sides) if isinstance(pixels, MirroredPixels) else []
    units = [each.unit for each in layout.sample_positions]
    shared.update(repr((*numbers, *sides, *units)).encode())
    theta_deg = np.zeros(0) if layout.theta_deg is None else layout.theta_deg
    lists = [theta_deg, *(each.values for each in layout.sample_positions)]
    values, n_frames = _monitor_of(layout, monitor), pixels.shape[0]
    # one for each frame, or nearly so while the file grows
    if abs(len(values) - n_frames) < abs(len(values) - len(projections.index)):
        values = values[:n_frames]
        index = projections.index[projections.index < len(values)]
        shared.update(np.delete(values, index).tobytes())
        values = values[index]
    lists.append(values)

    def content(span: IndexRange) -> str:
        first, last = span
        index = projections.index[first : last + 1]
        total = xxhash.xxh3_128(shared.digest())
        for values in lists:
            total.update(np.ascontiguousarray(values[first : last + 1]).tobytes())
        for part in sample(int(index[0]), int(index[-1]) + 1):
            total.update(part)
        return f"window:{total.hexdigest()}"

    return content
