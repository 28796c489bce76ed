import json
import tracemalloc

import h5py
import mrcfile
import numpy as np
import pytest

from tests.beads import write_scan
from tests.step_calls import export_stack, raw_of
from tomopipe.config import ExportStarBlock
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.steps import export_stack as step

N_ANGLES, N_ROWS, N_COLS = 7, 11, 21
THETA_DEG = np.linspace(0, 180, N_ANGLES)


def attenuation():
    """Attenuation that differs from pixel to pixel, 0.2 to 1.2."""
    shape = (N_ANGLES, N_ROWS, N_COLS)
    return 0.2 + np.random.default_rng(1).random(shape)


@pytest.fixture
def scan(tmp_path):
    rng = np.random.default_rng(2)
    flat = rng.integers(50000, 60000, (N_ROWS, N_COLS))
    dark = rng.integers(100, 2000, (N_ROWS, N_COLS))
    return write_scan(tmp_path / "scan_1.h5", attenuation(), THETA_DEG, flat=flat, dark=dark)


def export(scan, **options):
    """Export a scan without binning unless told otherwise; return the images and the JSON."""
    stack, meta = scan.with_suffix(".mrcs"), scan.with_suffix(".json")
    returned = export_stack(scan, stack, meta, **{"binning": 1, **options})
    assert json.loads(meta.read_text()) == returned
    assert mrcfile.validate(stack)
    return mrcfile.read(stack), returned


def averaged(images, shape, binning):
    rows, cols = shape
    used = images[:, : rows * binning, : cols * binning]
    return used.reshape(len(images), rows, binning, cols, binning).mean(axis=(2, 4))


def names_beside(scan):
    return {path.name for path in scan.parent.iterdir()}


def test_values_are_minus_log_of_the_transmission(scan):
    images, meta = export(scan)
    # Odd width: the last column is gone, nothing else moves. Counts are rounded to 1 in 18000.
    assert images == pytest.approx(attenuation()[:, :, :20], abs=1e-4)
    assert meta["stack_shape"] == [N_ANGLES, N_ROWS, 20]
    assert meta["theta_deg"] == pytest.approx(THETA_DEG.tolist())
    assert (meta["n_cols"], meta["n_rows"], meta["first_row"]) == (N_COLS, N_ROWS, 0)


def test_the_header_is_that_of_an_image_stack(scan):
    images, _ = export(scan, binning=2, pixel_size_um=0.65)
    with mrcfile.open(scan.with_suffix(".mrcs")) as file:
        assert file.is_image_stack()
        assert int(file.header.mode) == 2
        assert bytes(file.header.machst[:2]) == b"DD"  # little endian
        assert file.voxel_size.x == file.voxel_size.y == pytest.approx(13000)
        assert file.header.dmin == images.min()
        assert file.header.dmax == images.max()
        assert file.header.dmean == pytest.approx(images.mean(), rel=1e-5)
        assert file.header.rms == pytest.approx(images.std(), rel=1e-4)
        assert file.get_labels() == ["tomopipe"]  # no time stamp


def test_another_stack_is_another_file_beside_it(scan):
    images, meta = export(scan)
    assert meta["statistics"]["mean"] == pytest.approx(images.mean(dtype=float), rel=1e-12)
    _, corrected = export(scan, corrections={"hardening": [1.0, 1e-3]})
    assert corrected["stack_shape"] == meta["stack_shape"]
    assert corrected["statistics"] != meta["statistics"]


@pytest.mark.parametrize(
    ("binning", "shape"), [(2, (5, 10)), (3, (3, 6)), (4, (2, 4)), (10, (1, 2))]
)
def test_binning_averages_blocks_from_the_first_pixel(scan, binning, shape):
    images, meta = export(scan, binning=binning)
    assert meta["binning"] == binning
    assert images == pytest.approx(averaged(attenuation(), shape, binning), abs=1e-4)
    one_row = write_scan(scan, attenuation()[:, :1], THETA_DEG)
    images, _ = export(one_row, binning=binning)  # in width alone
    expected = averaged(np.repeat(attenuation()[:, :1], binning, axis=1), (1, shape[1]), binning)
    assert images == pytest.approx(expected, abs=1e-4)


def test_rows_are_both_included_and_images_keep_their_angles(scan):
    images, meta = export(scan, rows=[3, 6], max_tilts=3)
    assert meta["theta_deg"] == pytest.approx([0, 90, 180])
    assert images == pytest.approx(attenuation()[[0, 3, 6], 3:7, :20], abs=1e-4)
    assert (meta["n_rows"], meta["first_row"]) == (4, 3)


def test_a_binning_that_leaves_nothing_is_refused(scan):
    with pytest.raises(ScanError, match="binning 11 leaves 1 of 21 columns"):
        export(scan, binning=11)


def test_auto_binning_keeps_the_file_small(scan):
    images, meta = export(scan, binning="auto", max_stack_gb=2e-6)
    assert (meta["binning"], images.shape) == (3, (7, 3, 6))
    assert scan.with_suffix(".mrcs").stat().st_size < 2000
    with pytest.raises(ScanError, match=r"larger export_star\.max_stack_gb"):
        export(scan, binning="auto", max_stack_gb=1e-7)


@pytest.mark.parametrize(
    ("theta", "max_tilts", "frames"),
    [
        ([0, 1, 2, 3, 4, 5, 6], "all", [0, 1, 2, 3, 4, 5, 6]),
        ([0, 1, 2], 5, [0, 1, 2]),
        ([0, 1, 2, 3, 4, 5, 6], 3, [0, 3, 6]),
        ([6, 5, 4, 3, 2, 1, 0], 3, [0, 3, 6]),
        ([0, 4, 2, 6, 1, 3, 5], 3, [0, 3, 5]),  # interlaced: angles 0, 3 and 6
        ([0, 1, 2, 3], 1, [0]),
    ],
)
def test_tilts_are_chosen_evenly_in_angle(theta, max_tilts, frames):
    assert step.choose_tilts(np.array(theta, float), max_tilts).tolist() == frames


def test_what_a_camera_gets_wrong_stays_finite(tmp_path):
    path = write_scan(tmp_path / "bad.h5", attenuation(), THETA_DEG)
    with h5py.File(path, "r+") as file:
        counts = file.pop("exchange/data")[()].astype(np.float32)
        counts[1, 2, 3], counts[2, 4, 5], counts[3, :, 6] = np.nan, np.inf, 0
        file["exchange/data"] = counts
        file["exchange/data_white"][:, :, 8] = 100  # equal to the dark: a dead column
    images, _ = export(path)
    assert np.isfinite(images).all()
    assert images[:, :, 10:] == pytest.approx(attenuation()[:, :, 10:20], abs=1e-4)


def test_pixel_size_and_energy_of_the_config_then_the_file_then_assumed(tmp_path, scan):
    stated = {
        "measurement/instrument/detection_system/objective/resolution": (1.3, "um"),
        "measurement/instrument/monochromator/energy": (31.0, "keV"),
    }
    known = write_scan(tmp_path / "known.h5", attenuation(), THETA_DEG, **stated)
    _, meta = export(known, energy_kev=17.0)
    assert meta["pixel_size_um"] == {"value": 1.3, "source": "file"}
    assert meta["energy_kev"] == {"value": 17.0, "source": "config"}
    assert meta["warnings"] == []
    _, meta = export(known, known={"energy_kev": 18.0})
    assert meta["energy_kev"] == {"value": 18.0, "source": "config"}
    _, meta = export(scan)
    assert meta["pixel_size_um"] == {"value": 1.0, "source": "assumed"}
    assert meta["energy_kev"] == {"value": 20.0, "source": "assumed"}
    assert meta["warnings"] == [
        "pixel_size_um is unknown: 1 assumed. Set export_star.pixel_size_um.",
        "energy_kev is unknown: 20 assumed. Set export_star.energy_kev.",
    ]


def stored_in(path, chunks):
    with h5py.File(path, "r+") as file:
        file.create_dataset("exchange/data", data=file.pop("exchange/data")[()], chunks=chunks)


@pytest.mark.parametrize("chunks", [None, (1, N_ROWS, N_COLS), (N_ANGLES, 1, N_COLS), (3, 4, 5)])
@pytest.mark.parametrize("options", [{}, {"binning": 2, "rows": [1, 9], "max_tilts": 4}])
def test_pieces_make_the_same_stack_as_the_whole(scan, in_pieces, caplog, chunks, options):
    expected, _ = export(scan, **options)
    stored_in(scan, chunks)
    in_pieces()
    with caplog.at_level("INFO"):
        images, _ = export(scan, **options)
    assert np.array_equal(images, expected)
    messages = [line for line in caplog.messages if line.endswith("% written")]
    assert len(messages) > 1
    assert messages[-1] == "100 % written"


@pytest.mark.parametrize("chunks", [None, (60, 2, 200)])
def test_memory_does_not_grow_with_the_scan(tmp_path, in_pieces, chunks):
    attenuated = np.full((60, 100, 200), 0.7)
    attenuated[:, 0, 0] = 0.6
    path = write_scan(tmp_path / "big.h5", attenuated, np.linspace(0, 180, 60))
    stored_in(path, chunks)
    in_pieces(2**20)
    export(path)  # imports and caches are not counted
    tracemalloc.start()
    export_stack(path, tmp_path / "a.mrcs", tmp_path / "a.json", binning=1)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2 * 2**20 < 2 * attenuated.size


def test_a_failure_on_the_way_leaves_the_old_stack(scan, monkeypatch, in_pieces):
    before, _ = export(scan)
    in_pieces()
    monkeypatch.setattr(step, "block_average", lambda images, *_: 0 * images[:, :, :20] + np.nan)
    with pytest.raises(ScanError, match=r"scan_1.h5: normalised values are not finite"):
        export(scan)
    assert np.array_equal(mrcfile.read(scan.with_suffix(".mrcs")), before)
    assert names_beside(scan) == {"scan_1.h5", "scan_1.mrcs", "scan_1.json"}


def test_a_fault_of_the_scan_is_a_result(scan):
    stack, meta = scan.with_suffix(".mrcs"), scan.with_suffix(".json")
    export(scan)  # of other rows
    asked = ExportStarBlock(rows=[2, 20])
    about = {"made_from": {"step": "x"}, "least_binning": None, "pixels_of": None}
    found = step.export_or_fail(raw_of(scan, {}), stack, meta, asked, **about)
    assert "[2, 20] are not rows of this scan" in found["failed"]
    assert json.loads(meta.read_text()) == found
    assert found["made_from"]["step"] == "x"
    assert stack.read_bytes() == b""


@pytest.mark.parametrize("options", [{}, {"corrections": {"hardening": [1.0, 1e-3]}}])
def test_a_scan_of_which_half_was_never_written_gets_no_stack(scan, in_pieces, options):
    in_pieces()
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][3] = 0  # one alone is left to the correction
    export(scan, **options)
    with h5py.File(scan, "r+") as file:
        file["exchange/data"][3:] = 0
    reason = r"constant frames: 4 of 7 .*; input: \{skip_projections: \[\[3, 6\]\]\} leaves"
    with pytest.raises(ScanError, match=reason):
        export(scan, **options)
    images, _ = export(scan, known={"skip_projections": [[3, 6]]}, **options)
    assert len(images) == 3


@pytest.mark.parametrize(
    "cause", [MemoryError(), FileNotFoundError(2, "gone"), OSError(5, "network"), None]
)
def test_a_fault_that_may_pass_fails_the_job(scan, monkeypatch, cause):
    def fail(*_, **__):
        raise (ScanError("cannot be read") if cause else TomopipeError("full")) from cause

    monkeypatch.setattr(step, "export_stack", fail)
    stack, meta = scan.with_suffix(".mrcs"), scan.with_suffix(".json")
    with pytest.raises(TomopipeError):
        step.export_or_fail(raw_of(scan, {}), stack, meta, ExportStarBlock(), made_from=None)
    assert not stack.exists()


def test_pixels_that_are_not_square_are_no_stack_unless_somebody_says_that_they_are(scan):
    with h5py.File(scan, "a") as file:
        detector = file.require_group("measurement/instrument/detector")
        detector["x_pixel_size"], detector["y_pixel_size"] = "5 um", "10 um"
    with pytest.raises(ScanError, match=r"2 times as high as wide\. .* set input\.pixel_size_um"):
        export(scan)
    export(scan, known={"pixel_size_um": 5.0})
