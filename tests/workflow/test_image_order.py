"""Runs of TIFF scans whose names hold signed or decimal angles."""

import json

import h5py
import numpy as np
import pytest
import tifffile

from tests.phantoms import write_scan
from tests.workflow.conftest import snakemake

COR_PX, N_COLS, ROW = 44.3, 96, 1
# names, and the angle of the first projection, from which all go over 180 degrees
FORMS = {"signed": ("tilt_{:.0f}", -90), "printed": ("p_{:g}", 0), "plain": ("img_{:05.1f}", 0)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The campaign after its run, and the true slice of each scan."""
    folder = tmp_path_factory.mktemp("order") / "campaign"
    slices = {}
    for number, (scan, (form, first_deg)) in enumerate(FORMS.items()):
        theta_deg = first_deg + np.linspace(0, 180, 241 if scan == "printed" else 91)
        truth = write_scan(
            tmp_path_factory.mktemp("as_hdf5") / "scan.h5", cor_px=COR_PX, counts=100_000,
            n_rows=3, n_cols=N_COLS, theta_deg=theta_deg, seed=number,
        )  # fmt: skip
        slices[scan] = truth.slice(ROW)
        with h5py.File(truth.path) as file:
            parts = [file[f"exchange/{name}"][()] for name in ("data", "data_white", "data_dark")]
        names = [form.format(angle) for angle in theta_deg]
        for part, images in zip(("", "flats", "darks"), parts, strict=True):
            place = folder / "raw" / scan / part
            place.mkdir(parents=True, exist_ok=True)
            for name, image in zip(names, images, strict=False):
                tifffile.imwrite(place / f"{name}.tif", image)
    (folder / "config.yaml").write_text(
        "campaign: {scans: [raw/*/]}\n"
        "input: {angles: {start: 0, stop: 180}}\n"
        "overrides: [{scans: [signed], input: {angles: {start: -90, stop: 90}}}]\n"
        "try_recon: {width_px: 8, step_px: 1}\n"
        "predict_cor: {methods: [classical]}\n"  # loads no network
        "export_star: {enabled: false}\n"
    )
    assert snakemake(folder).status == 0
    return folder, slices


@pytest.mark.parametrize("scan", FORMS)
def test_volumes_are_right(made, scan):
    folder, slices = made
    cor_px = json.loads((folder / "results" / "cor.json").read_text())[scan]["cor_px"]
    assert cor_px == pytest.approx(COR_PX, abs=0.3)
    with h5py.File(folder / "results" / f"{scan}_rec.h5") as file:
        volume = file["exchange/data"][ROW]
    y, x = np.mgrid[:N_COLS, :N_COLS] - N_COLS / 2
    within = np.hypot(x, y) < 0.36 * N_COLS
    assert np.corrcoef(volume[within], slices[scan][within])[0, 1] > 0.95
