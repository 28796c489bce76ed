"""A small campaign of three formats and angular ranges, with options of a single scan."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from tests.nxtomo_files import ESRF, write_nxtomo
from tests.phantoms import write_scan
from tests.workflow.conftest import plan, snakemake
from tomopipe.simulate.phantom import Ellipsoid
from tomopipe.volumes.volume_read import read_provenance

N_ROWS = 3


@dataclass(frozen=True)
class Mixed:
    """One scan of the campaign: its COR and the width of its slices."""

    cor_px: float
    n_cols: int
    width: int


SCANS = {
    "dx_1": Mixed(46.3, 97, 97),
    "half_1": Mixed(80.4, 95, 190),
    "short_1": Mixed(50.7, 99, 99),
}


def _body(radius_px: float, *beads: tuple[float, float]) -> list[Ellipsoid]:
    """A tall body with beads, which all rows but the ends show."""
    body = Ellipsoid(0.0, 0.0, 1.0, radius_px, radius_px, 4000.0, 0.0, 0.008)
    return [body, *(Ellipsoid(x, y, 1.0, 5.0, 4.0, 6.0, 0.3, 0.02) for x, y in beads)]


def _write(path: Path, name: str, radius_px: float, theta_deg: np.ndarray, *beads) -> list:
    """Write a DXchange scan; return its frames, flats and darks."""
    scan = SCANS[name]
    write_scan(
        path, cor_px=scan.cor_px, n_cols=scan.n_cols, n_rows=N_ROWS, theta_deg=theta_deg,
        counts=50000, phantom=_body(radius_px, *beads),
    )  # fmt: skip
    with h5py.File(path) as file:
        return [file[f"exchange/{key}"][()] for key in ("data", "data_white", "data_dark")]


def write_mixed(folder: Path) -> Path:
    """Write the campaign: DXchange 180 degrees, NXtomo half acquisition, TIFF two thirds."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    _write(raw / "dx_1.h5", "dx_1", 30, np.linspace(0, 180, 91), (14, -9), (-12, 11))
    theta_deg = np.linspace(0, 360, 240, endpoint=False)
    frames = _write(folder / "half.tmp", "half_1", 65, theta_deg, (50, -28), (-20, 45), (9, 14))
    data, flats, darks = frames
    keys = np.repeat([2, 1, 0], [len(darks), len(flats), len(data)])
    angles = np.concatenate([np.zeros(len(darks) + len(flats)), theta_deg])
    every = np.concatenate([darks, flats, data])
    write_nxtomo(raw / "half_1.nx", entry=ESRF, keys=keys, angles=angles, data=every)
    theta_deg = np.linspace(0, 150, 76)
    frames = _write(folder / "short.tmp", "short_1", 30, theta_deg, (13, 10), (-15, -8))
    for place, images in zip(("projections", "flats", "darks"), frames, strict=True):
        (folder / "tiff" / "short_1" / place).mkdir(parents=True)
        for number, image in enumerate(images):
            tifffile.imwrite(folder / "tiff" / "short_1" / place / f"{number:03d}.tif", image)
    lines = "\n".join(f"{angle:.4f}" for angle in theta_deg)
    (folder / "tiff" / "short_1" / "angles.txt").write_text(lines)
    for path in folder.glob("*.tmp"):
        path.unlink()
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*.h5, raw/*.nx, tiff/*/]}\n"
        "input: {energy_kev: 25, distance_mm: 20, pixel_size_um: 1}\n"
        "predict_cor: {methods: [classical, ai]}\n"
        "try_recon: {width_px: 8, step_px: 1}\n"
        "storage: {keep_try: false}\n"
        "export_star: {enabled: true}\n"
        "overrides:\n"
        "- {scans: [half_1], preprocess: {half_acquisition: 'yes'}}\n"
        "- scans: [dx_1]\n"
        "  preprocess: {stripes: {method: sorting}, phase: {method: paganin, delta_beta: 20}}\n"
    )
    return folder


def test_formats_turns_and_overrides_mixed(tmp_path):
    campaign = write_mixed(tmp_path / "campaign")
    run = snakemake(campaign)
    assert run.status == 0, run.text
    resolved = json.loads((campaign / "results" / "cor.json").read_text())
    assert set(resolved) == set(SCANS)
    for name, scan in SCANS.items():
        assert resolved[name]["cor_px"] == pytest.approx(scan.cor_px, abs=0.5), name
        volume = campaign / "results" / f"{name}_rec.h5"
        with h5py.File(volume) as file:
            assert file["exchange/data"].shape == (N_ROWS, scan.width, scan.width), name
        corrected = read_provenance(volume)["parameters"]["corrections"]
        assert set(corrected) == ({"stripes", "phase"} if name == "dx_1" else set()), name
        assert (campaign / "results" / "relion" / "stacks" / f"{name}.mrcs").is_file()
    # accepted, all of them: their try stacks were temporary
    assert not list(campaign.glob("results/try_center/*/try.tif"))
    assert len(list(campaign.glob("results/try_center/*/rows.h5"))) == len(SCANS)
    assert plan(campaign) == (0, frozenset())
