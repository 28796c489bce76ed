"""Columns of the detector skipped: the same COR, the same places, in all steps."""

import io
import json

import h5py
import numpy as np
import pytest
import starfile
import tifffile
from PIL import Image

from tests.exchange_files import read_metadata
from tests.phantoms import sphere, write_scan
from tests.step_calls import export_stack, export_star, predict_in, try_in, volume_of
from tomopipe.config import PreprocessBlock, TryReconBlock
from tomopipe.errors import ScanError
from tomopipe.prep.correct import corrections_of
from tomopipe.report.thumbnails import in_grey
from tomopipe.review.scan_images import Pictures
from tomopipe.scans.exchange import open_scan
from tomopipe.steps.try_recon import try_grid
from tomopipe.storage.atomic import write_json
from tomopipe.volumes.volume_read import read_provenance

N_COLS, COR_PX = 151, 71.3
BEADS = [(21.0, -12.0), (-17.0, 15.0)]
PHANTOM = [sphere(0, 0, 1, 40, 0.004), *(sphere(x, y, 1, 5, 0.02) for x, y in BEADS)]
# the object is seen in columns 31 to 112
SELECTED = [[17, 124], [20, 124], [21, 123], [0, 130]]


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return write_scan(
        tmp_path_factory.mktemp("scan") / "a_1.h5",
        n_cols=N_COLS, n_rows=3, n_angles=121, cor_px=COR_PX, phantom=PHANTOM, counts=200000,
    )  # fmt: skip


def _bead_places(image, binning=1):
    """Places of the beads from the axis, in detector pixels: centres of mass of what is bright."""
    n = len(image)
    columns, rows = np.arange(n) - n // 2, np.arange(n) - (n // 2 - 1)
    found = []
    for x, y in BEADS:
        near = np.hypot(columns * binning - x, rows[:, None] * binning - y) < 8
        weight = np.where(near, np.clip(image - 0.01, 0, None), 0)
        found.append((weight.sum(0) @ columns, weight.sum(1) @ rows) / weight.sum() * binning)
    return np.array(found)


def _volume(truth, path, known, **options):
    options = {"cor_px": truth.cor_px, "device": "cpu"} | options
    return volume_of(truth.path, path, known=known, **options)


@pytest.mark.parametrize("form", ["plain", "gzip", "deep chunks", "folder", "pages"])
def test_the_reader_gives_these_columns_of_all_frames(truth, tmp_path, form):
    path = tmp_path / "scan.h5"
    with h5py.File(truth.path) as old:
        data, flats, darks, theta = (
            old[f"exchange/{name}"][()] for name in ("data", "data_white", "data_dark", "theta")
        )
    if form in ("folder", "pages"):
        of_images = {"": data, "/flats": flats, "/darks": darks}
        path = tmp_path / "scan"
        if form == "pages":
            path = tmp_path / "scan.tif"
            tifffile.imwrite(path, data)
            of_images = {"_flats": flats, "_darks": darks}
        for name, images in of_images.items():
            folder = tmp_path / f"scan{name}"
            folder.mkdir()
            for number, image in enumerate(images):
                tifffile.imwrite(folder / f"{number:03d}.tif", image)
    else:
        packing = {
            "plain": {},
            "gzip": {"chunks": (1, 3, 70), "compression": "gzip"},
            "deep chunks": {"chunks": (50, 2, N_COLS), "compression": "gzip"},
        }[form]
        with h5py.File(path, "w") as new:
            new.create_dataset("exchange/data", data=data, **packing)
            new["exchange/data_white"], new["exchange/data_dark"] = flats, darks
            new["exchange/theta"] = theta
    part = np.s_[..., 17:125]
    angles = {"angles": {"start": 0, "stop": 180}}  # images have none
    with open_scan(path, options={"columns": [17, 124]} | angles) as scan:
        scan.threads = 2
        assert (scan.n_cols, scan.first_col, scan.detector_cols) == (108, 17, N_COLS)
        np.testing.assert_array_equal(scan.read_rows(1, 3), data[:, 1:3][part])
        np.testing.assert_array_equal(scan.read_block((7, 99), (0, 2)), data[7:99, :2][part])
        np.testing.assert_array_equal(scan.read_frames([90, 3]), data[[90, 3]][part])
        np.testing.assert_array_equal(scan.read_flats(0, 1), flats[:, :1][part])
        np.testing.assert_allclose(scan.flat, flats.mean(axis=0)[part], rtol=1e-6)
        np.testing.assert_allclose(scan.dark, darks.mean(axis=0)[part], rtol=1e-6)


def test_the_inventory_says_so_and_columns_that_are_not_there_are_an_error(truth):
    found = read_metadata(truth.path, options={"columns": [17, 124]})
    assert (found.n_cols, found.columns) == (N_COLS, (17, 125))
    assert f"columns 17 to 124 of {N_COLS} in use" in found.found
    assert "columns" not in read_metadata(truth.path).found
    with pytest.raises(ScanError, match=r"input\.columns: \[17, 151\] are not columns .*0 to 150"):
        read_metadata(truth.path, options={"columns": [17, 151]})


@pytest.fixture(scope="module")
def looked_at(truth, tmp_path_factory):
    """Sweep and prediction without and with each selection."""
    found = {}
    for columns in (None, *SELECTED):
        folder = tmp_path_factory.mktemp("try") / "a_1"
        known = {"columns": columns} if columns else None
        grid = {"center_px": 72, "width_px": 6, "step_px": 1, "max_size_px": 80}
        sweep = try_in(folder, truth.path, known=known, **grid)
        found[str(columns)] = folder, sweep, predict_in(folder, methods=["classical"])
    return found


@pytest.mark.parametrize("columns", SELECTED, ids=str)
def test_cors_are_those_of_the_whole_detector(looked_at, columns):
    _, plain_sweep, plain = looked_at["None"]
    _, sweep, prediction = looked_at[str(columns)]
    assert sweep["cor_px"] == plain_sweep["cor_px"]
    assert (sweep["first_col"], sweep["n_cols"]) == (columns[0], columns[1] - columns[0] + 1)
    assert prediction["cor_px"] == pytest.approx(COR_PX, abs=0.1)
    assert prediction["cor_px"] == pytest.approx(plain["cor_px"], abs=0.05)
    curve_px = prediction["methods"]["classical"]["curve"]["cor_px"]
    assert columns[0] <= min(curve_px) < COR_PX < max(curve_px) <= columns[1]


@pytest.mark.parametrize("binning", [1, 2, 3])
@pytest.mark.parametrize("columns", SELECTED[:3], ids=str)
def test_the_volume_has_everything_where_it_was(truth, tmp_path, columns, binning):
    whole = _volume(truth, tmp_path / "whole.h5", None, binning=binning)
    part = _volume(truth, tmp_path / "part.h5", {"columns": columns}, binning=binning)
    n = (columns[1] - columns[0] + 1) // binning
    assert part.shape[1:] == (n, n)
    row = len(whole) // 2
    places = _bead_places(part[row], binning)
    # a binned voxel's centre is up to half a voxel off the axis' place
    np.testing.assert_allclose(places, BEADS, atol=0.1 + (binning - 1) / 2)
    np.testing.assert_allclose(places, _bead_places(whole[row], binning), atol=0.05 * binning)
    geometry = read_provenance(tmp_path / "part.h5")["geometry"]
    assert geometry["columns"] == columns
    inside = (COR_PX - columns[0] - (binning - 1) / 2) / binning
    assert geometry["cor_in_volume_px"] == pytest.approx(inside)
    assert read_provenance(tmp_path / "part.h5")["cor"]["cor_px"] == COR_PX


def test_the_axis_must_be_among_the_columns(truth, tmp_path):
    with pytest.raises(ScanError, match=r"off the columns in use \(80 to 140\)"):
        _volume(truth, tmp_path / "v.h5", {"columns": [80, 140]})
    with pytest.raises(ScanError, match=r"lies on the detector \(80 to 140\)"):
        try_grid(TryReconBlock(center_px=60, width_px=5, step_px=1), 61, first_col=80)
    middle = try_grid(TryReconBlock(width_px=1, step_px=1), 61, first_col=80)
    assert middle.tolist() == [109, 110, 111]


def test_half_acquisition_of_some_columns(tmp_path):
    """Without its first columns the axis is still near the right edge; the slice is as before."""
    truth = write_scan(
        tmp_path / "h_1.h5", n_cols=100, n_rows=1, cor_px=84.3,
        theta_deg=np.linspace(0, 360, 240, endpoint=False),
        phantom=[sphere(0, 0, 0, 60, 0.004), sphere(40, -12, 0, 5, 0.02)],
    )  # fmt: skip
    path = tmp_path / "v.h5"
    images = [_volume(truth, path, {"columns": columns})[0] for columns in ("all", [11, 97])]
    assert [len(image) for image in images] == [200, 174]
    peak = [np.unravel_index(np.argmax(image), image.shape) for image in images]
    from_axis = [(x - n // 2, y - (n // 2 - 1)) for (y, x), n in zip(peak, (200, 174), strict=True)]
    np.testing.assert_allclose(from_axis, [(40, -12)] * 2, atol=3)
    inner = [image[len(image) // 2 - 20 :, len(image) // 2 - 20 :][:40, :40] for image in images]
    assert np.abs(inner[0] - inner[1]).mean() < 0.05 * 0.004


def test_distortion_and_roll_are_about_the_middle_of_the_whole_detector(truth):
    recipe = PreprocessBlock(roll_deg=2.0, distortion={"coefficients": [1.0, 2e-5]})
    done = []
    for columns in ("all", [17, 124]):
        with open_scan(truth.path, options={"columns": columns}) as scan:
            done.append(corrections_of(scan, recipe).sinograms(scan.read_rows(0, 3), (0, 3)))
    # but for the columns that take from beyond the edge
    np.testing.assert_allclose(done[1][..., 3:-3], done[0][..., 20:122], atol=1e-5)


def test_the_stack_for_relion_knows_its_axis(truth, tmp_path):
    meta = export_stack(
        truth.path, tmp_path / "a.mrcs", tmp_path / "a.json", known={"columns": [21, 123]},
        binning=2, pixel_size_um=1.0, energy_kev=20.0,
    )  # fmt: skip
    assert json.loads((tmp_path / "a.json").read_text()) == meta
    assert meta["stack_shape"] == [121, 1, 50]  # 103 columns: 51 binned ones, an even number
    write_json({"a": {"cor_px": COR_PX, "source": "auto"}}, tmp_path / "cor.json")
    export_star(
        {"a": str(tmp_path / "a.json")}, {"a": str(tmp_path / "a.mrcs")}, tmp_path / "cor.json",
        tmp_path / "relion",
    )  # fmt: skip
    tables = starfile.read(tmp_path / "relion" / "tomograms.star", always_dict=True)
    # at 0 degrees column = COR + x - axis (world = voxel + 1)
    shift_px = json.loads(tables["a"]["rlnTomoProjX"][0])[3]
    assert shift_px + 1 + 50 // 2 == pytest.approx((COR_PX - 21 - 0.5) / 2, abs=1e-6)


def grey8(picture):
    """The picture in 8 bits, in the window it begins with."""
    shown = picture.low + picture.values * (picture.high - picture.low) / 65535
    return in_grey(shown, *picture.usual)


def test_the_review_page_shows_cors_of_the_whole_detector(looked_at):
    shown = []
    for columns in (None, [17, 124]):
        folder = looked_at[str(columns)][0]
        pictures = Pictures(
            folder.parent, filter="ramp", device="cpu", half_acquisition=lambda scan: "no"
        )
        found = grey8(pictures.slice("a_1", COR_PX, 0))
        overlay = np.asarray(Image.open(io.BytesIO(pictures.overlay("a_1", COR_PX, 0))))
        shown.append((np.asarray(found, float), overlay.astype(float)))
        assert pictures.details("a_1")["first_col"] == (columns[0] if columns else 0)
    (whole, _), (part, overlay) = shown
    middle = [
        image[n // 2 - 35 : n // 2 + 33, n // 2 - 34 : n // 2 + 34].ravel()
        for image, n in ((whole, N_COLS), (part, 108))
    ]
    assert np.corrcoef(*middle)[0, 1] > 0.97  # the grey windows differ a little
    # opposing projections fall together: magenta and green are equal
    assert np.abs(overlay[..., 0] - overlay[..., 1]).mean() < 8
