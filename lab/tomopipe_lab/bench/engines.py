"""The engines that are compared on a CPU: ours, and others where they are installed.

Each gets one thread and is called as simply as its manual shows. All of them agree in the sense of
the angles; where the axis lies in their slices is stated.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe_lab.bench.phantoms import Axis, engine_axis
from tomopipe_lab.bench.with_finufft import finufft_engine

Sinograms = NDArray[np.float32]  # (n_slices, n_angles, n_cols)
Slices = NDArray[np.float32]  # (n_slices, n_cols, n_cols)
Run = Callable[[Sinograms, float], Slices]
Make = Callable[[NDArray[np.float64], int], Run]


@dataclass(frozen=True)
class Engine:
    """An engine to compare.

    Attributes
    ----------
    name : str
        As shown.
    package : str
        Module that has to be importable.
    make : callable
        make(theta_rad, n_cols) returns run(sinograms, cor_px), which returns slices.
    axis : callable
        axis(n_cols) returns the voxel (x, y) of the axis in its slices.
    n_slices : int
        Slices per call.
    n_cors : int
        Slices of different CORs that one call makes at the price of as many slices of one COR.
    fitted : bool
        Gain and offset are fitted before it is compared with the truth.
    remark : str
        What to know about the comparison.
    has_cor : bool
        False: it expects the axis at the column of `axis`, and rows are moved there.
    """

    name: str
    package: str
    make: Make
    axis: Callable[[int], Axis] = engine_axis
    n_slices: int = 16
    n_cors: int = 16
    fitted: bool = False
    remark: str = ""
    has_cor: bool = True

    def missing(self) -> str:
        """Return why it cannot be used, or an empty string."""
        try:
            importlib.import_module(self.package)
        except ModuleNotFoundError as error:
            found = (error.name or "") != self.package.partition(".")[0]
            return f"not usable: {error}" if found else "not installed"
        except Exception as error:  # a library may fail in its own ways when it is loaded
            return f"not usable: {error}"
        return ""


def _ours(theta_rad: NDArray[np.float64], n_cols: int) -> Run:
    plan = make_plan(theta_rad, n_cols)
    kept: dict[int, Slices] = {}

    def run(sinograms: Sinograms, cor_px: float) -> Slices:
        n_slices = len(sinograms)
        if n_slices not in kept:
            kept[n_slices] = np.empty((n_slices, n_cols, n_cols), dtype=np.float32)
        out = kept[n_slices]
        return np.asarray(reconstruct(sinograms, plan, cor_px, threads=1, out=out))

    return run


def _one_by_one(single: Callable[[NDArray[np.float32], float], Any]) -> Run:
    """Return a run of an engine that knows one slice."""

    def run(sinograms: Sinograms, cor_px: float) -> Slices:
        return np.stack([single(sinogram, cor_px) for sinogram in sinograms])

    return run


def _algotom(function: str) -> Make:
    def make(theta_rad: NDArray[np.float64], n_cols: int) -> Run:
        module = importlib.import_module("algotom.rec.reconstruction")
        options: dict[str, Any] = {"ratio": None, "filter_name": None, "apply_log": False}
        if function == "fbp_reconstruction":
            options["gpu"] = False

        def single(sinogram: NDArray[np.float32], cor_px: float) -> Any:
            # ncore does not reach its compiled back projection, whose threads add to the same
            # pixels at once and lose sums by chance
            before = numba.get_num_threads()
            numba.set_num_threads(1)
            try:
                return getattr(module, function)(sinogram, cor_px, theta_rad, ncore=1, **options)
            finally:
                numba.set_num_threads(before)

        return _one_by_one(single)

    return make


def _skimage(theta_rad: NDArray[np.float64], n_cols: int) -> Run:
    transform = importlib.import_module("skimage.transform")
    theta_deg = np.rad2deg(theta_rad)

    def single(sinogram: NDArray[np.float32], cor_px: float) -> Any:
        rows = shifted(sinogram, cor_px - n_cols // 2)
        return transform.iradon(rows.T, theta_deg, filter_name="ramp", circle=True)

    return _one_by_one(single)


def _astra(theta_rad: NDArray[np.float64], n_cols: int) -> Run:
    astra = importlib.import_module("astra")
    volume = astra.create_vol_geom(n_cols, n_cols)
    rays = astra.create_proj_geom("parallel", 1.0, n_cols, theta_rad)
    projector = astra.create_projector("linear", rays, volume)

    def single(sinogram: NDArray[np.float32], cor_px: float) -> Any:
        rows = shifted(sinogram, cor_px - (n_cols - 1) / 2)
        data = astra.data2d.create("-sino", rays, rows)
        image = astra.data2d.create("-vol", volume)
        options = astra.astra_dict("FBP")
        options.update(ProjectorId=projector, ProjectionDataId=data, ReconstructionDataId=image)
        options["option"] = {"FilterType": "ram-lak"}
        algorithm = astra.algorithm.create(options)
        try:
            astra.algorithm.run(algorithm)
            return astra.data2d.get(image)
        finally:
            astra.algorithm.delete(algorithm)
            astra.data2d.delete([data, image])

    return _one_by_one(single)


def _gridrec(padded: bool) -> Make:
    def make(theta_rad: NDArray[np.float64], n_cols: int) -> Run:
        tomopy = importlib.import_module("tomopy")
        pad = n_cols // 2 if padded else 0
        kept = slice(pad, pad + n_cols)

        def run(sinograms: Sinograms, cor_px: float) -> Slices:
            if pad:
                sinograms = np.pad(sinograms, ((0, 0), (0, 0), (pad, pad)), mode="edge")
            slices = tomopy.recon(
                sinograms, theta_rad, center=cor_px + pad, sinogram_order=True,
                algorithm="gridrec", filter_name="ramlak", ncore=1,
            )  # fmt: skip
            return np.asarray(slices[:, kept, kept])

        return run

    return make


def shifted(sinogram: NDArray[np.float32], by_px: float) -> NDArray[np.float32]:
    """Move the rows of a sinogram to the left by linear interpolation, edge values continued."""
    positions = np.arange(sinogram.shape[1]) + by_px
    columns = np.arange(sinogram.shape[1])
    return np.stack([np.interp(positions, columns, row) for row in sinogram]).astype(np.float32)


def _middle(n_cols: int) -> Axis:
    return (n_cols - 1) / 2, (n_cols - 1) / 2


def _half(n_cols: int) -> Axis:
    return n_cols // 2, n_cols // 2


_MOVED = "has no COR: rows are moved by interpolation"
OURS = Engine("tomopipe", "numba", _ours)
ENGINES: tuple[Engine, ...] = (
    OURS,
    Engine("finufft", "finufft", finufft_engine, remark="eps 1e-3, upsampfac 1.25, 1.25 n bins"),
    # gridrec makes two slices in one transform, both at the first one's centre
    Engine(
        "gridrec",
        "tomopy",
        _gridrec(False),
        n_cors=1,
        fitted=True,
        remark="fitted: loses the mean",
    ),
    Engine(
        "gridrec padded",
        "tomopy",
        _gridrec(True),
        n_cors=1,
        fitted=True,
        remark="rows padded to 2 n",
    ),
    Engine("algotom fbp", "algotom", _algotom("fbp_reconstruction"), _middle, n_slices=1),
    Engine("algotom dfi", "algotom", _algotom("dfi_reconstruction"), _half, n_slices=1),
    Engine("scikit-image", "skimage", _skimage, _half, n_slices=1, remark=_MOVED, has_cor=False),
    Engine("ASTRA", "astra", _astra, _middle, n_slices=1, remark=_MOVED, has_cor=False),
)
