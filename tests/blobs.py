"""Scans of Gaussian blobs, whose volume is known at every voxel, with any options of a volume.

An option of `OPTIONS` changes a `Scene`: what the scan shows or suffers, and the options that undo
it. Written with several, the volume must still be `truth`, by the positions that it states itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tests.step_calls import full_recon
from tomopipe.volumes.volume_read import open_volume

N_ROWS, N_COLS, RADIUS_PX, INNER_ROWS = 24, 64, 22, (5, 17)
N_BLOBS, SEED = 14, 11
Array = NDArray[np.float64]


def _blobs() -> Array:
    """x, y and row from the axis, width across and along it, and height of each blob."""
    rng = np.random.default_rng(SEED)
    angle, far = rng.uniform(0, 2 * np.pi, N_BLOBS), 15 * np.sqrt(rng.uniform(0, 1, N_BLOBS))
    ranges = [(1, 22), (2.3, 3.2), (2, 3.5), (0.02, 0.06)]
    others = [rng.uniform(low, high, N_BLOBS) for low, high in ranges]
    return np.stack([far * np.cos(angle), far * np.sin(angle), *others], axis=1)


@dataclass
class Scene:
    """A scan, what it suffers, and the options by which its volume is made."""

    theta_deg: Array = field(default_factory=lambda: np.linspace(0, 180, 181))
    cor_px: float = 33.2
    shifts_px: float = 0.0  # largest shift of a projection
    roll_deg: float = 0.0
    distortion: tuple[float, ...] = (1.0,)
    hardening: float = 0.0
    drift: float = 0.0  # of the beam from the first flats to the last
    jitter: float = 0.0  # of the beam, in a monitor
    slope: float = 0.0  # of the beam from left to right, in each row of each projection
    stripes: float = 0.0
    n_zingers: int = 0
    dtype: str = "f4"
    chunks: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    preprocess: dict[str, Any] = field(default_factory=dict)
    full: dict[str, Any] = field(default_factory=dict)


def _option(known: Any = (), preprocess: Any = (), full: Any = (), **scene: Any) -> Any:
    def change(target: Scene) -> None:
        vars(target).update(scene)
        target.known |= dict(known)
        target.preprocess |= dict(preprocess)
        target.full |= dict(full)

    return change


TURN, DISTORTION = np.arange(360.0), (1.0, 0.0, 3e-5)
# by kind, of which a scan has one
OPTIONS: dict[str, dict[str, Callable[[Scene], None]]] = {
    "angles": {
        "360": _option(theta_deg=np.linspace(0, 360, 361)),
        "golden": _option(theta_deg=np.mod(np.arange(200) * 111.246117975, 180)),
        "backwards": _option(theta_deg=np.linspace(400, 220, 181)),
        "off axis": _option(theta_deg=TURN, cor_px=24.7),
        "half left": _option(theta_deg=TURN, cor_px=8.3),
        "half right": _option(theta_deg=TURN, cor_px=55.4),
        "time point": _option({"window": [180, 360]}, theta_deg=np.linspace(0, 540, 541)),
    },
    "fewer": {
        "every": _option({"every": 2}),
        "average": _option({"average": 2}),
    },
    "columns": {"columns": _option({"columns": [3, 60]})},
    "binning": {"2": _option(full={"binning": 2}), "3": _option(full={"binning": 3})},
    "rows": {"rows": _option(full={"rows": [3, 19]}), "one": _option(full={"rows": [9, 9]})},
    "crop": {"crop": _option(full={"crop_x": [11, 52], "crop_y": [7, 50]})},
    "flats": {
        "interpolate": _option((), {"flat_method": "interpolate"}, drift=-0.2),
        "median": _option((), {"flat_method": "median"}),
    },
    "monitor": {
        "monitor": _option(
            (), {"ring_current": {"dataset": "/monitor", "flats_mean": 100.0}}, jitter=0.1
        )
    },
    "air": {"air": _option((), {"air_px": 3}, slope=0.1)},
    "zingers": {"zingers": _option((), {"zingers": {"threshold": 0.2}}, n_zingers=26)},
    "roll": {"roll": _option((), {"roll_deg": 2.0}, roll_deg=2.0)},
    "distortion": {
        "distortion": _option(
            (), {"distortion": {"coefficients": [*DISTORTION]}}, distortion=DISTORTION
        )
    },
    "shifts": {"shifts": _option(shifts_px=1.5)},
    "hardening": {"hardening": _option((), {"hardening": [1.0, 0.1]}, hardening=0.1)},
    "stripes": {"stripes": _option((), {"stripes": {"method": "sorting"}}, stripes=0.02)},
    "unit": {"per cm": _option({"pixel_size_um": 2.0}, full={"unit": "per_cm"})},
    "type": {
        "uint16": _option(full={"dtype": "uint16"}),
        "float16": _option(full={"dtype": "float16"}),
    },
    "filter": {"sirt": _option(full={"algorithm": "sirt", "iterations": 60})},
    "counts": {"big-endian": _option(dtype=">u2"), "double": _option(dtype="f8")},
    "file": {
        "sinograms": _option({"axes": ["row", "angle", "col"]}),
        "frames": _option(chunks={"chunks": True, "compression": "gzip"}),
    },
}
CLASHES = [
    ("golden", "average"),
    ("half", "air"),
    ("half", "sirt"),
    ("crop", "columns"),
    ("interpolate", "monitor"),
]


def scene_of(*options: tuple[str, str]) -> Scene:
    """A scan with some options, each by kind and name."""
    scene = Scene()
    for kind, name in options:
        OPTIONS[kind][name](scene)
    return scene


def _line_integrals(blobs: Array, theta_rad: float, cor_px: float, col: Array, row: Array) -> Array:
    total = np.zeros(np.broadcast(col, row).shape)
    for x, y, z, across, along, height in blobs:
        off = col - (cor_px + x * np.cos(theta_rad) - y * np.sin(theta_rad))
        far = (off / across) ** 2 + ((row - z) / along) ** 2
        total += height * np.sqrt(2 * np.pi) * across * np.exp(-far / 2)
    return total


def truth(row: Array, y: Array, x: Array, binning: int, n_high: int) -> Array:
    """The volume at positions from the axis, averaged over `binning` columns and `n_high` rows."""
    volume = np.zeros((len(row), len(y), len(x)))
    for x_px, y_px, z, across, along, height in _blobs():
        wide, high = across**2 + (binning**2 - 1) / 12, along**2 + (n_high**2 - 1) / 12
        level = height * across**2 / wide * np.sqrt(along**2 / high)
        far = ((y - y_px) ** 2 / wide)[:, None] + (x - x_px) ** 2 / wide
        volume += level * np.exp(-((row - z) ** 2) / high / 2)[:, None, None] * np.exp(-far / 2)
    return volume


def _source(scene: Scene) -> tuple[Array, Array]:
    """Row and column of the corrected frame that each pixel of a frame as taken shows."""
    rows, cols = np.mgrid[:N_ROWS, :N_COLS].astype(float)
    middle_row, middle_col = (N_ROWS - 1) / 2, (N_COLS - 1) / 2
    row, col, angle = rows.copy(), cols.copy(), np.deg2rad(scene.roll_deg)
    for _ in range(50):  # the documented direction is the inverse
        y, x = row - middle_row, col - middle_col
        y, x = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
        factor = np.polyval(scene.distortion[::-1], np.hypot(x, y))
        row += rows - middle_row - factor * y
        col += cols - middle_col - factor * x
    return row, col


def write(scene: Scene, folder: Path) -> Path:
    """Write the scan, and the file of its shifts."""
    rng, n = np.random.default_rng(5), len(scene.theta_deg)
    neighbours = rng.uniform(-1, 1, (n // 2 + 1, 2)).repeat(2, axis=0)[:n]  # averaged together
    shifts_px, (row, col) = scene.shifts_px * neighbours, _source(scene)
    lines = [
        _line_integrals(_blobs(), theta_rad, scene.cor_px, col - dx, row - dy)
        for theta_rad, (dx, dy) in zip(np.deg2rad(scene.theta_deg), shifts_px, strict=True)
    ]
    lines = np.array(lines)
    if c := scene.hardening:
        lines = (np.sqrt(1 + 4 * c * lines) - 1) / (2 * c)
    across = np.arange(N_COLS) / N_COLS
    before = 28000 * (1 + 0.1 * np.sin(7 * across)) * rng.uniform(0.97, 1.03, (N_ROWS, N_COLS))
    after = before * (1 + scene.drift * (1 - across / 2))
    part = ((np.arange(n) + 0.5) / n)[:, None, None]
    monitor = 1 + scene.jitter * rng.uniform(-1, 1, n)
    ends = scene.slope * rng.uniform(-1, 1, (2, n, N_ROWS, 1))
    light = (before + part * (after - before)) * monitor[:, None, None]
    light *= 1 + ends[0] + (ends[1] - ends[0]) * across
    gain = 1 + scene.stripes * np.isin(np.arange(N_COLS), [9, 22, 37, 48])
    light[rng.integers(n, size=scene.n_zingers), *rng.integers(N_ROWS, size=(2, 1))] *= 3
    dark = 100 + rng.uniform(-10, 10, (N_ROWS, N_COLS))
    frames = {
        "data": dark + gain * light * np.exp(-lines),
        "data_white": dark + np.repeat([before, after], 4, axis=0),
        "data_dark": np.repeat(dark[None], 3, axis=0),
    }
    path, table = folder / "blobs.h5", folder / "shifts.txt"
    with h5py.File(path, "w") as file:
        for name, values in frames.items():
            stored = np.rint(values) if "u" in scene.dtype else values
            if name == "data" and "axes" in scene.known:
                stored = stored.transpose(1, 0, 2)
            file.create_dataset(f"exchange/{name}", data=stored.astype(scene.dtype), **scene.chunks)
        file["exchange/theta"], file["monitor"] = scene.theta_deg, 100 * monitor
    np.savetxt(table, shifts_px)
    if scene.shifts_px:
        scene.preprocess["shifts"] = str(table)
    return path


def error_of(scene: Scene, folder: Path) -> float:
    """Make the volume, and return its rms error within the sample by the largest value of that."""
    path, volume = write(scene, folder), folder / "volume.h5"
    full_recon(
        path, volume, cor_px=scene.cor_px, known=scene.known, corrections=scene.preprocess,
        device="cpu", threads=1, **scene.full,
    )  # fmt: skip
    with open_volume(volume) as opened, h5py.File(volume) as file:
        slices = np.stack([opened.read_slice(row) for row in range(opened.shape[0])])
        geometry, binning = opened.provenance["geometry"], scene.full.get("binning", 1)
        # without a pixel size positions are those of voxels
        unit = scene.known.get("pixel_size_um", 1 / binning)
        z, y, x = (file[f"entry/data/{axis}"][()] / unit for axis in "zyx")
    n_wide = (2 if geometry["half_acquisition"] else 1) * geometry["n_cols"]
    y, x = y - (n_wide // 2 - 1), x - n_wide // 2
    n_high = 1 if scene.full.get("rows") == [9, 9] else binning
    per_unit = 1e4 / unit if "unit" in scene.full else 1.0
    inner = np.hypot(y[:, None], x) <= RADIUS_PX
    rows = (z >= INNER_ROWS[0]) & (z <= INNER_ROWS[1])
    expected = truth(z, y, x, binning, n_high)[rows][:, inner]
    error = slices[rows][:, inner] / per_unit - expected
    return float(np.sqrt(np.mean(error**2)) / expected.max())
