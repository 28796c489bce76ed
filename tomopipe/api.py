"""tomopipe in a notebook: arrays in, arrays out.

`import tomopipe as tp` has these functions: `tp.open_scan`, `tp.correct`, `tp.find_cor`,
`tp.reconstruct` and `tp.sweep`, and those of `tomopipe.notebook`. Angles are in degrees;
CORs are columns of the detector, the centre of the first one is 0; values are attenuation per
pixel. The workflow's steps use what lies below.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomopipe.arrays import on_host
from tomopipe.config import (
    FullReconBlock,
    PredictCorBlock,
    PreprocessBlock,
    TryReconBlock,
    parse_config,
)
from tomopipe.cor.answer import MIN_ANGLES, Answer
from tomopipe.cor.collected_rows import Rows, opposing_pairs, spread_rows
from tomopipe.cor.curves import Curves
from tomopipe.cor.methods import Decision, ask, choose
from tomopipe.cor.prepared import Prepared
from tomopipe.cor.sample_motion import reject_jump
from tomopipe.cor_methods import METHODS, method_named
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.prep.correct import edge_slopes_of, in_order
from tomopipe.prep.flats import Beam
from tomopipe.prep.recipe import Detector, steps_of
from tomopipe.recon import cuda, fbp
from tomopipe.recon.device import FEW_SLICES, held_gpu
from tomopipe.recon.plan import Plan, make_plan
from tomopipe.scans.angle_lists import other_unit
from tomopipe.scans.exchange import open_scan

__all__ = ["correct", "find_cor", "open_scan", "reconstruct", "sweep"]

_FEW_DEG = 10.0  # a span of so many numbers that is 180 or 360 degrees in another unit: radians
# the defaults of the workflow
_PREDICT, _TRY, _FULL = PredictCorBlock(), TryReconBlock(), FullReconBlock()


def correct(
    projections: ArrayLike,
    flats: ArrayLike,
    darks: ArrayLike,
    *,
    energy_kev: float | None = None,
    distance_mm: float | None = None,
    pixel_size_um: float | None = None,
    threads: int = 1,
    **preprocess: Any,
) -> NDArray[np.float32]:
    """Turn raw projections into sinograms of line integrals.

    Parameters
    ----------
    projections : array_like, shape (n_angles, n_rows, n_cols)
        Raw counts.
    flats, darks : array_like, shape (n, n_rows, n_cols) or (n_rows, n_cols)
        Frames without sample, and without beam.
    energy_kev, distance_mm, pixel_size_um : float, optional
        For phase retrieval.
    threads : int
        CPU threads.
    **preprocess
        Keys of the configuration's block `preprocess`, such as stripes={"method": "vo"}; of
        flat_method only mean and median.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_angles, n_cols)
        Line integrals; transmission with minus_log=False.

    Raises
    ------
    ValueError
        If the shapes do not fit, flats are nowhere brighter than darks, or a key is not one of
        `preprocess`, or needs the file of a scan.
    ScanError
        If phase retrieval lacks a number.
    """
    given = {"energy_kev": energy_kev, "distance_mm": distance_mm, "pixel_size_um": pixel_size_um}
    numbers = {name: float(value) for name, value in given.items() if value is not None}
    recipe, raw = _recipe(preprocess, numbers), np.asarray(projections)
    if recipe.flat_method not in ("mean", "median") or _needs_file(recipe):
        raise ValueError(
            "flat_method interpolate, pca and register, ring_current, shifts and roll_deg: auto "
            "need the file of a scan: set them in config.yaml, for `tomopipe run`. Here "
            "flat_method is mean or median."
        )
    if raw.ndim != 3 or not raw.size or threads < 1:
        raise ValueError(
            "projections: expected shape (n_angles, n_rows, n_cols), and threads of 1 or more; "
            f"got {raw.shape} and {threads}"
        )
    average = np.median if recipe.flat_method == "median" else np.mean
    flat = _frame("flats", flats, average, raw.shape)
    dark = _frame("darks", darks, average, raw.shape)
    _check_levels(raw, flat, dark)
    n_angles, n_rows, n_cols = raw.shape
    still = np.zeros((0, n_rows, n_cols), np.float32)
    beam = Beam(flat, dark, still, np.zeros((n_angles, 0), np.float32))
    try:
        steps = steps_of(recipe, Detector(n_rows, n_cols, **numbers), beam)
    except ScanError as error:  # there is no file, and no `input`
        needed = str(error).partition(", but")[0]
        raise ScanError(f"{needed}: give these as arguments, such as energy_kev=25") from None
    corrections = in_order(recipe, beam, steps)
    return np.asarray(corrections.sinograms(raw, (0, n_rows), threads=threads))


def _needs_file(recipe: PreprocessBlock) -> bool:
    of_file = recipe.ring_current.dataset, recipe.shifts
    return recipe.roll_deg == "auto" or any(value is not None for value in of_file)


def _recipe(preprocess: dict[str, Any], numbers: dict[str, float]) -> PreprocessBlock:
    blocks = {"campaign": {"scans": ["*"]}, "preprocess": preprocess, "input": numbers}
    try:
        return parse_config(blocks, source="correct").preprocess
    except TomopipeError as error:
        raise ValueError(str(error)) from None


def _frame(
    name: str, frames: ArrayLike, average: Any, projections: tuple[int, ...]
) -> NDArray[np.float32]:
    values = np.asarray(frames)
    if values.shape[-2:] != projections[1:] or values.ndim not in (2, 3) or not values.size:
        n_rows, n_cols = projections[1:]
        raise ValueError(
            f"{name}: expected one or more frames of shape ({n_rows}, {n_cols}), as the "
            f"projections {projections}; got {values.shape}"
        )
    return np.asarray(average(values, axis=0) if values.ndim == 3 else values, np.float32)


def _check_levels(raw: NDArray[Any], flat: NDArray[np.float32], dark: NDArray[np.float32]) -> None:
    """Refuse flats without beam; warn of pixels and values that become those of others."""
    bright = float((flat > dark).mean())
    if not bright:
        raise ValueError(
            "flats: expected brighter than darks; no pixel is. Were they given in the order flats, "
            "darks, and are their numbers finite?"
        )
    if bright < 0.5:
        text = f"flats are brighter than darks at only {100 * bright:.0f} % of the pixels"
        warnings.warn(f"{text}; others take their neighbours' values", stacklevel=3)
    _warn_not_finite("projections", raw, "they take their neighbours'")


def _warn_not_finite(name: str, values: NDArray[Any], what_then: str) -> None:
    if values.dtype.kind == "f" and (n := values.size - np.count_nonzero(np.isfinite(values))):
        text = f"{name}: {n} of {values.size} values are not finite; {what_then}"
        warnings.warn(text, stacklevel=4)


def find_cor(
    sinograms: ArrayLike,
    theta_deg: ArrayLike,
    *,
    center_px: float | None = None,
    width_px: float = _TRY.width_px,
    methods: Sequence[str] = tuple(_PREDICT.methods),
    min_confidence: float = _PREDICT.min_confidence,
    progress: Callable[[str], object] | None = None,
) -> Decision:
    """Find the centre of rotation, with a confidence.

    Parameters
    ----------
    sinograms : array_like, shape (n_rows, n_angles, n_cols) or (n_angles, n_cols)
        Line integrals of one row or, better, of many. Also projections (n_angles, n_rows, n_cols):
        recognised by the number of angles.
    theta_deg : array_like, shape (n_angles,)
        Angles.
    center_px : float, optional
        Middle of the search; default: of the detector.
    width_px : float
        Half width of the search.
    methods : sequence of str
        As `predict_cor.methods`: those of tomopipe, or of a package of your site.
    min_confidence : float
        Least confidence of an accepted COR.
    progress : callable, optional
        Called with a line of text before each part of the work, and after it with its answer:
        `progress=print` shows them.

    Returns
    -------
    Decision
        `cor_px`, None if none was accepted; `best_cor_px`, `confidence`, `verdict`, `method`,
        `reason`. `reconstruct`, `sweep` and NumPy take it as a COR.

    Raises
    ------
    ValueError
        If the shapes do not fit, an angle is not finite, angles are radians, `center_px` lies off
        the detector, or there is no such method.
    """
    _check_methods(methods)
    if not 0 < width_px < np.inf:
        raise ValueError(f"width_px: expected a number above 0, got {width_px}")
    values = np.asarray(sinograms, np.float32)
    every = values[None] if values.ndim == 2 else values
    if every.ndim == 3 and every.shape[0] == np.size(theta_deg) != every.shape[1]:
        every = every.transpose(1, 0, 2)
    rows = _rows(every, _theta_rad(every, theta_deg))
    last_px = every.shape[2] - 1
    middle_px = last_px / 2 if center_px is None else center_px
    _check_cor("center_px", middle_px, every.shape[2])
    grid_px = np.arange(max(0.0, middle_px - width_px), min(last_px, middle_px + width_px), 0.5)
    tell, n = progress or (lambda text: None), len(methods) + 2
    tell(f"1 of {n}: {len(rows.sinograms)} of {rows.n_rows} rows, {len(rows.pairs)} opposing pairs")
    curves, answers = Curves(Prepared(rows)), []
    for number, method in enumerate(methods, start=2):
        tell(f"{number} of {n}: method {method}, {len(grid_px)} CORs")
        answers.append(ask(method, curves, grid_px))
        tell(f"{method}: {_in_words(answers[-1])}")
    tell(f"{n} of {n}: whether the sample has moved")
    return reject_jump(choose(answers, min_confidence, curves.reach_px), curves.prepared)[0]


def _check_methods(methods: Sequence[str]) -> None:
    """Refuse what is no list of methods that need no file."""
    others = [name for name in methods if name not in METHODS]
    try:
        needs_file = [name for name in others if method_named(name).method.needs_file]
    except TomopipeError:
        needs_file = others
    if isinstance(methods, str) or not methods or needs_file:
        raise ValueError(
            f"methods: expected a list of {', '.join(METHODS)}, or of a package of your site; got "
            f"{methods!r}"
        )


def _in_words(answer: Answer) -> str:
    if answer.best_cor_px is None:
        return answer.reason or answer.verdict
    return f"{answer.best_cor_px:.2f} px, confidence {answer.confidence:.2f}, {answer.verdict}"


def _rows(every: NDArray[np.float32], theta_rad: NDArray[np.float64]) -> Rows:
    """Return sinograms as try_recon keeps those of a scan."""
    n_rows = len(every)
    pairs = opposing_pairs(theta_rad) if n_rows > 1 else np.zeros((0, 2), np.intp)
    images = every[:, pairs.ravel()].transpose(1, 0, 2).reshape(-1, 2, n_rows, every.shape[2])
    row_index = np.array(spread_rows([n_rows // 2], n_rows), np.int64)
    return Rows(
        sinograms=every[row_index],
        row_index=row_index,
        theta_rad=theta_rad,
        pairs=images,
        pair_theta_rad=theta_rad[pairs],
        n_rows=n_rows,
        edge_slopes_per_px=edge_slopes_of(every.mean(axis=(0, 1))),
    )


def reconstruct(
    sinograms: ArrayLike,
    theta_deg: ArrayLike,
    cor_px: ArrayLike,
    *,
    filter: str = _FULL.filter,
    device: str = "auto",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Reconstruct slices by filtered back-projection.

    Parameters
    ----------
    sinograms : array_like, shape (n_rows, n_angles, n_cols)
        Line integrals.
    theta_deg : array_like, shape (n_angles,)
        Angles.
    cor_px : float, the answer of `find_cor`, or array_like of shape (n_rows,)
        Column of the axis, of all rows or of each.
    filter : str
        As `full_recon.filter`.
    device : {"auto", "cpu", "cuda"}
        auto: a free GPU with room for 4 slices, else the CPU. cuda: a GPU, shared if none is free.
    threads : int, optional
        CPU threads; default: all cores.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_cols, n_cols)
        Attenuation per pixel, [row, y, x]; always as wide as the detector.

    Raises
    ------
    ValueError
        If the shapes do not fit, an angle is not finite, angles are radians, a COR lies off the
        detector, or `find_cor` has accepted none.
    """
    values = np.ascontiguousarray(sinograms, np.float32)
    theta_rad = _theta_rad(values, theta_deg)
    _check_cor("cor_px", cor_px, values.shape[2])
    if np.shape(cor_px) not in ((), (1,), (len(values),)):
        raise ValueError(f"cor_px: expected one or {len(values)}; got {np.size(cor_px)}")

    def batches(plan: Plan) -> Iterator[tuple[slice, Any]]:
        each_px = fbp.checked_cor(cor_px, len(values))

        def slices(batch: slice) -> Any:
            rows = plan.xp.asarray(values[batch])
            return fbp.reconstruct(rows, plan, each_px[batch], threads=threads)

        return fbp.in_batches(plan, len(values), slices)

    return _made(values, theta_rad, filter, device, len(values), batches)


def sweep(
    sinogram: ArrayLike,
    theta_deg: ArrayLike,
    cor_px: ArrayLike,
    *,
    filter: str = _FULL.filter,
    device: str = "auto",
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Reconstruct one sinogram with each of many CORs.

    Parameters
    ----------
    sinogram : array_like, shape (n_angles, n_cols)
        Line integrals.
    theta_deg : array_like, shape (n_angles,)
        Angles.
    cor_px : array_like, shape (n_cor,), or the answer of `find_cor`
        Columns to try, such as `answer + np.arange(-2, 3)`.
    filter, device, threads
        As for `reconstruct`.

    Returns
    -------
    ndarray of float32, shape (n_cor, n_cols, n_cols)
        One slice for each COR.

    Raises
    ------
    ValueError
        As for `reconstruct`.
    """
    values = np.ascontiguousarray(sinogram, np.float32)
    theta_rad = _theta_rad(values[None], theta_deg)
    _check_cor("cor_px", cor_px, values.shape[1])
    each_px = np.ravel(np.asarray(cor_px, float))

    def batches(plan: Plan) -> Iterator[tuple[slice, Any]]:
        return fbp.sweep_batches(plan.xp.asarray(values), plan, each_px, threads=threads)

    return _made(values[None], theta_rad, filter, device, len(each_px), batches)


def _made(
    values: NDArray[np.float32],
    theta_rad: NDArray[np.float64],
    filter: str,
    device: str,
    n_slices: int,
    batches: Callable[[Plan], Iterator[tuple[slice, Any]]],
) -> NDArray[np.float32]:
    """Gather slices on the host; a GPU is held meanwhile."""
    n_angles, n_cols = values.shape[1:]
    edge_slopes_per_px = edge_slopes_of(values.mean(axis=(0, 1)))
    images = np.empty((n_slices, n_cols, n_cols), np.float32)

    def fill(xp: ModuleType) -> None:  # what it holds is gone before the GPU is let go
        plan = make_plan(
            theta_rad, n_cols, filter=filter, edge_slopes_per_px=edge_slopes_per_px, xp=xp
        )
        for batch, slices in batches(plan):
            images[batch] = on_host(slices)

    with held_gpu(device, cuda.sweep_gpu_bytes(n_angles, n_cols, FEW_SLICES), wait=False) as gpu:
        fill(gpu.xp if gpu else np)
    return images


def _theta_rad(sinograms: NDArray[np.float32], theta_deg: ArrayLike) -> NDArray[np.float64]:
    """Return the angles of sinograms in radians; refuse radians, warn of other odd spans."""
    angles = np.asarray(theta_deg, float)
    if sinograms.ndim != 3 or not sinograms.size or angles.shape != sinograms.shape[1:2]:
        raise ValueError(
            "sinograms: expected shape (n_rows, n_angles, n_cols), and theta_deg (n_angles,); got "
            f"{sinograms.shape} and {angles.shape}"
        )
    if (wrong := np.flatnonzero(~np.isfinite(angles))).size:
        raise ValueError(f"theta_deg: expected finite angles; number {wrong[0]} is not")
    span = np.ptp(angles)
    fault, odd = other_unit(angles)
    if fault and span < _FEW_DEG and angles.size >= MIN_ANGLES:
        raise ValueError(f"theta_deg spans {span:.4g}, as radians do: pass np.rad2deg(theta_rad)")
    if fault or odd or other_unit(np.deg2rad(np.deg2rad(angles)))[0]:
        text = f"theta_deg spans {span:.4g}; expected degrees: np.rad2deg(theta_rad) of radians"
        warnings.warn(text, stacklevel=3)
    _warn_not_finite("sinograms", sinograms, "they count as 0")
    return np.deg2rad(angles)


def _check_cor(name: str, cor_px: ArrayLike, n_cols: int) -> None:
    values_px = np.ravel(np.asarray(cor_px, float))
    off_px = values_px[~((values_px >= 0) & (values_px <= n_cols - 1))]
    if off_px.size:
        raise ValueError(f"{name}: expected columns from 0 to {n_cols - 1}; got {off_px[0]:g}")
