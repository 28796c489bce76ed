"""How far slices of the same sinogram by several engines are apart, and where their axis lies.

All engines get the same line integrals with an odd number of columns: then their conventions of the
centre differ by whole voxels, and no image is moved by interpolation. Gain and offset are fitted
before two images are compared, as some engines lose the mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from tomopipe.errors import TomopipeError
from tomopipe.prep.normalise import normalise
from tomopipe.scans.exchange import open_scan
from tomopipe_lab.bench.cpu import angles_180, cor_of
from tomopipe_lab.bench.engines import Engine
from tomopipe_lab.bench.phantoms import INSIDE, sharp_image, sharp_sinogram

RANGE_PERCENT = 0.5, 99.5  # of values inside the circle: the range that differences refer to
_POINT_PX, _POINTS = 4.0, ((0.0, 0.0), (0.21, 0.13), (-0.17, 0.24))  # radius; places / n_cols
_POINT_COLS, _POINT_CORS = (128, 129), (0.0, 0.3, 0.5, -7.25)  # columns; COR less n_cols / 2
_WINDOW = 10  # voxels on each side of a point
_PHANTOM_COLS = 257
Image = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DataSet:
    """Line integrals that all engines reconstruct.

    Attributes
    ----------
    name : str
        As shown.
    sinogram : ndarray of float32, shape (n_angles, n_cols)
        Line integrals per pixel; n_cols is odd.
    theta_rad : ndarray, shape (n_angles,)
        Angles.
    cor_px : float
        Column of the axis.
    truth : ndarray or None
        What is right, on the grid of `images`, if it is known.
    """

    name: str
    sinogram: NDArray[np.float32]
    theta_rad: NDArray[np.float64]
    cor_px: float
    truth: Image | None = None


@dataclass(frozen=True, eq=False)
class Agreement:
    """Images of one data set, and how far they are apart, in percent of the range of values.

    Attributes
    ----------
    data : DataSet
        What was reconstructed.
    images : dict of str to ndarray, shape (n, n)
        By engine, the axis in the middle; gain and offset are those of the first one.
    between : ndarray, shape (n_engines, n_engines)
        Root mean square of the differences inside the circle.
    to_others : dict of str to float
        Of each engine to the median of all others.
    to_truth : dict of str to float
        And to what is right; empty if that is not known.
    """

    data: DataSet
    images: dict[str, Image]
    between: Image
    to_others: dict[str, float]
    to_truth: dict[str, float]


def phantom() -> DataSet:
    """Return ellipses with sharp edges, which are known exactly."""
    theta_rad, cor_px = angles_180(_PHANTOM_COLS), cor_of(_PHANTOM_COLS)
    axis = _PHANTOM_COLS // 2, _PHANTOM_COLS // 2
    truth = _cropped(sharp_image(_PHANTOM_COLS, axis), axis)
    sinogram = sharp_sinogram(_PHANTOM_COLS, theta_rad, cor_px)
    return DataSet("ellipses, known exactly", sinogram, theta_rad, cor_px, truth)


def data_set(path: str, row: int | None, cor_px: float | None) -> DataSet:
    """Read a row of a scan, the middle one by default; its COR is found if it is not given.

    Raises TomopipeError if the row is outside the scan, or no COR can be found.
    """
    from tomopipe import api

    with open_scan(path) as scan:
        row = scan.n_rows // 2 if row is None else row
        if not 0 <= row < scan.n_rows:
            raise TomopipeError(f"{path}: --row {row}: expected 0 to {scan.n_rows - 1}")
        part = slice(row, row + 1)
        lines = normalise(scan.read_rows(row, row + 1), scan.flat[part], scan.dark[part])[:, 0]
        theta_rad = scan.theta_rad
    if cor_px is None:
        cor_px = api.find_cor(lines[None], np.rad2deg(theta_rad)).best_cor_px
    if cor_px is None:
        raise TomopipeError(f"{path}: no COR found. Give it: --cor PX")
    if lines.shape[1] % 2 == 0:
        lines = np.pad(lines, ((0, 0), (0, 1)), mode="edge")
    name = f"{path.rpartition('/')[2]}, row {row}, COR {cor_px:.2f} px"
    return DataSet(name, np.ascontiguousarray(lines, np.float32), theta_rad, cor_px)


def compare(
    data: DataSet, engines: Iterable[Engine], progress: Callable[[str], object] = str
) -> Agreement:
    """Reconstruct one data set by all engines, and compare the images."""
    n_cols = data.sinogram.shape[1]
    images = {}
    for engine in engines:
        progress(f"{data.name}: {engine.name}")
        image = _slice(engine, data.sinogram, data.theta_rad, data.cor_px)
        images[engine.name] = _cropped(image, engine.axis(n_cols))
    inside = _inside(len(next(iter(images.values()))))
    first = next(iter(images.values()))
    images = {name: _fitted(image, first, inside) for name, image in images.items()}
    between = [[_apart(a, b, inside) for b in images.values()] for a in images.values()]
    medians = {name: _median_without(images, name) for name in images}
    to_others = {name: _apart(image, medians[name], inside) for name, image in images.items()}
    truth = data.truth
    to_truth = {}
    if truth is not None:
        to_truth = {name: _apart(image, truth, inside) for name, image in images.items()}
    return Agreement(data, images, np.array(between), to_others, to_truth)


def offsets_px(engine: Engine) -> tuple[float, float]:
    """Return how far an engine puts small objects from where its stated axis says, at most.

    Gaussian blobs on the axis (the first number) and off it, with an odd and an even number of
    columns and several CORs; the place is that of a fitted blob, in voxels.
    """
    offsets = [
        [
            _point_offset_px(engine, n_cols, n_cols / 2 + cor, (x * n_cols, y * n_cols))
            for n_cols in _POINT_COLS
            for cor in _POINT_CORS
        ]
        for x, y in _POINTS
    ]
    return max(offsets[0]), max(max(each) for each in offsets[1:])


def _slice(
    engine: Engine, sinogram: NDArray[np.float32], theta_rad: NDArray[np.float64], cor_px: float
) -> NDArray[np.float32]:
    """Reconstruct one slice; twice, as some engines make pairs."""
    if not engine.has_cor:  # a move by interpolation, as in the benchmark, would smooth its slice
        neutral_px = engine.axis(sinogram.shape[1])[0]
        sinogram, cor_px = moved(sinogram, cor_px - neutral_px), neutral_px
    both = engine.make(theta_rad, sinogram.shape[1])(np.stack([sinogram, sinogram]), cor_px)
    return np.asarray(both[0])


def moved(sinogram: NDArray[np.float32], by_px: float) -> NDArray[np.float32]:
    """Move rows to the left by the phase of their transform, edge values continued."""
    n_cols = sinogram.shape[1]
    padded = np.pad(sinogram.astype(float), ((0, 0), (n_cols, n_cols)), mode="edge")
    share = np.linspace(0, 1, padded.shape[1])
    trend = padded[:, :1] * (1 - share) + padded[:, -1:] * share  # without it the ends would meet
    phase = np.exp(2j * np.pi * by_px * np.fft.rfftfreq(padded.shape[1]))
    rows = np.fft.irfft(np.fft.rfft(padded - trend) * phase, padded.shape[1]) + trend
    return np.ascontiguousarray(rows[:, n_cols : 2 * n_cols], np.float32)


def psnr_db(percent: float) -> float:
    """Return the PSNR (dB) of an RMS difference in percent of the range."""
    return float(-20 * np.log10(percent / 100))


def _point_offset_px(
    engine: Engine, n_cols: int, cor_px: float, place_px: tuple[float, float]
) -> float:
    theta_rad = angles_180(n_cols)
    (x, y), columns = place_px, np.arange(n_cols)
    centre = cor_px + x * np.cos(theta_rad) - y * np.sin(theta_rad)
    lines = np.sqrt(np.pi) * _POINT_PX * np.exp(-(((columns - centre[:, None]) / _POINT_PX) ** 2))
    image = _slice(engine, lines.astype(np.float32), theta_rad, cor_px)
    at = np.add(engine.axis(n_cols), place_px)  # x, y
    first = np.maximum(np.round(at).astype(int) - _WINDOW, 0)
    part = image[first[1] : first[1] + 2 * _WINDOW + 1, first[0] : first[0] + 2 * _WINDOW + 1]
    grid = np.indices(part.shape)[::-1].reshape(2, -1) + first[:, None]
    start = (1.0, 0.0, _POINT_PX, *at)
    fit = curve_fit(_blob, grid, part.ravel().astype(float), p0=start)[0]
    return float(np.hypot(*(fit[3:] - at)))


def _blob(
    grid: Image, height: float, level: float, radius: float, x: float, y: float
) -> NDArray[np.float64]:
    distance2 = (grid[0] - x) ** 2 + (grid[1] - y) ** 2
    return np.asarray(level + height * np.exp(-distance2 / radius**2))


def _cropped(image: NDArray[np.floating], axis: tuple[float, float]) -> Image:
    """Return the square about the axis, which lies on a voxel."""
    x, y = (round(at) for at in axis)
    if (x, y) != tuple(axis):
        raise ValueError(f"the axis {axis} is between voxels")
    half = int(INSIDE * len(image))
    part = image[y - half : y + half + 1, x - half : x + half + 1]
    return np.asarray(part, np.float64)


def _inside(side: int) -> NDArray[np.bool_]:
    at = np.arange(side) - side // 2
    return np.asarray(at**2 + (at**2)[:, None] <= (side // 2) ** 2)


def _fitted(image: Image, reference: Image, inside: NDArray[np.bool_]) -> Image:
    gain, offset = np.polyfit(image[inside], reference[inside], 1)
    return np.asarray(gain * image + offset)


def _apart(image: Image, reference: Image, inside: NDArray[np.bool_]) -> float:
    low, high = np.percentile(reference[inside], RANGE_PERCENT)
    left = (_fitted(image, reference, inside) - reference)[inside]
    return float(100 * np.sqrt(np.mean(left**2)) / (high - low))


def _median_without(images: Mapping[str, Image], name: str) -> Image:
    others = [image for other, image in images.items() if _family(other) != _family(name)]
    return np.asarray(np.median(others or [images[name]], axis=0))


def _family(name: str) -> str:
    """Two ways of one package are one engine among the others."""
    return re.split(r"\W", name)[0]
