import errno
import json
import os
import re
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import tifffile

from tests.beads import centre_of_bead
from tests.phantoms import sphere, write_scan
from tests.step_calls import TRY_FILES, predict_in, try_in
from tests.tiff_files import read_try_stack
from tomopipe.config import TryReconBlock
from tomopipe.cor.collected_rows import read_rows
from tomopipe.cor.roll import Roll, UsedRows
from tomopipe.errors import ScanError
from tomopipe.prep.warp import Warp, apply_warp
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.steps.try_recon import try_grid
from tomopipe.stream import try_sweep as step
from tomopipe.volumes import tiff

COR_PX = 62.25
BEADS = [sphere(20, -13, 2, 8, 0.02), sphere(-15, 18, 2, 6, 0.02), sphere(5, 30, 2, 5, 0.02)]


def _scan(tmp_path, **options):
    options = {"n_cols": 128, "n_angles": 181, "cor_px": COR_PX, "phantom": BEADS} | options
    return write_scan(tmp_path / "scan_001.h5", **options)


def _try(tmp_path, **options):
    out = tmp_path / "try_center" / "scan_001"
    options = {"width_px": 2, "device": "cpu"} | options
    result = try_in(out, tmp_path / "scan_001.h5", **options)
    assert json.loads((out / "try.json").read_text()) == result
    return result, *(out / name for name in TRY_FILES)


def _to_values(pages, window):
    low, high = window
    return pages.astype(float) / 65535 * (high - low) + low


def test_the_page_at_the_true_cor_is_the_true_slice(tmp_path):
    truth = _scan(tmp_path)
    result, try_tif, _, _ = _try(tmp_path, center_px=COR_PX, step_px=1)
    images, cor_px = read_try_stack(try_tif)
    assert cor_px.tolist() == result["cor_px"] == [COR_PX + d for d in (-2, -1, 0, 1, 2)]
    values = _to_values(images, result["window"])
    rms = np.sqrt(((values - truth.slice(result["row"])) ** 2).mean(axis=(1, 2)))
    assert rms[2] < 0.001
    assert (rms[[1, 3]] > 2 * rms[2]).all()
    assert (rms[[0, 4]] > rms[[1, 3]]).all()
    for bead in BEADS:
        true_px = (bead.x_px + 64, bead.y_px + 63)
        found_px = centre_of_bead(values[2], *true_px, bead.semi_x_px)
        np.testing.assert_allclose(found_px, true_px, atol=0.05)


def test_one_grey_window_for_the_whole_sweep(tmp_path):
    _scan(tmp_path)
    narrow, try_tif, _, _ = _try(tmp_path, center_px=COR_PX, width_px=12, step_px=0.5)
    images, cor_px = read_try_stack(try_tif)
    values = _to_values(images, narrow["window"])
    # The mean of a slice is that of the object, whatever the COR: one scale for all pages.
    means = values[:, 16:112, 16:112].mean(axis=(1, 2))
    assert len(cor_px) == 49
    np.testing.assert_allclose(means, means[24], rtol=0.05)
    assert images[24].max() > 60000


def test_binned_pages_keep_position_and_value(tmp_path):
    bead = sphere(31, -22, 1, 20, 0.01)
    _scan(tmp_path, n_cols=129, phantom=[bead], n_rows=3)
    result, try_tif, _, _ = _try(tmp_path, center_px=COR_PX, width_px=0, max_size_px=64)
    assert result["binning"] == 3
    assert result["geometry"]["size_px"] == 43
    assert result["geometry"]["axis_voxel_xy"] == [21, 20]
    values = _to_values(read_try_stack(try_tif)[0], result["window"])[0]
    true_px = (21 + 31 / 3, 20 - 22 / 3)
    np.testing.assert_allclose(centre_of_bead(values, *true_px, 20 / 3), true_px, atol=0.05)
    rows, cols = np.indices(values.shape)
    inside = np.hypot(cols - true_px[0], rows - true_px[1]) < 4
    assert values[inside].mean() == pytest.approx(0.01, rel=0.02)


def test_rows_hold_the_try_row_first_and_the_truth(tmp_path):
    truth = _scan(tmp_path, n_rows=9)
    result, _, _, rows_h5 = _try(tmp_path, row=[2, 0.5])
    rows = read_rows(rows_h5)
    assert (result["row"], result["rows"]) == (2, [2, 4])
    assert rows.row_index.tolist()[:2] == [2, 4]
    true = truth.projections()
    expected = true[:, rows.row_index].transpose(1, 0, 2)
    np.testing.assert_allclose(rows.sinograms, expected, atol=1e-4)
    np.testing.assert_allclose(rows.pairs[0], true[[0, 180]], atol=1e-4)
    assert (result["n_cols"], result["n_rows"], result["n_angles"]) == (128, 9, 181)


@pytest.mark.parametrize(
    ("n_cols", "options", "expected"),
    [
        (128, {}, [63.5 + d / 2 for d in range(-100, 101)]),
        (20, {"center_px": 10, "width_px": 1}, [9, 9.5, 10, 10.5, 11]),
        (20, {"center_px": 10, "width_px": 0}, [10]),
        (20, {"center_px": 10, "width_px": 1, "step_px": 0.8}, [9, 9.5, 10, 10.5, 11]),
        (20, {"center_px": 1, "width_px": 2, "step_px": 1}, [0, 1, 2, 3]),
        (20, {"center_px": 19.5, "width_px": 1}, [18.5, 19]),
    ],
    ids=["default", "ends", "one", "smaller steps", "left edge", "right edge"],
)
def test_the_grid(n_cols, options, expected):
    grid_px = try_grid(TryReconBlock(**options), n_cols, first_col=0)
    np.testing.assert_allclose(grid_px, expected, atol=1e-9)


def test_a_grid_off_the_detector_is_an_error():
    with pytest.raises(ScanError, match=r"no candidate in 25 \+- 5 px .* \(0 to 19\)"):
        try_grid(TryReconBlock(center_px=25, width_px=5, step_px=1), 20, first_col=0)


def test_full_size_slices_with_tomoguis_names(tmp_path):
    truth = _scan(tmp_path, n_rows=4)
    out = tmp_path / "try_center" / "scan_001"
    out.mkdir(parents=True)
    for stale in ("recon_slice0003_center07.00.tiff", "recon_slice0001_center999.50.tiff"):
        (out / stale).touch()
    options = {"center_px": COR_PX, "width_px": 1, "max_size_px": 64}
    _, try_tif, _, _ = _try(tmp_path, row=[2, 1], format="tiff", **options)
    cors_px = ("61.25", "61.75", "62.25", "62.75", "63.25")
    names = [f"recon_slice000{row}_center{cor_px}.tiff" for row in (1, 2) for cor_px in cors_px]
    assert [path.name for path in tiff.try_slice_paths(out)] == names
    for row in (1, 2):
        image = tifffile.imread(out / f"recon_slice000{row}_center62.25.tiff")
        assert image.dtype == np.float32
        assert np.sqrt(((image - truth.slice(row)) ** 2).mean()) < 0.001
    assert read_try_stack(try_tif)[0].shape == (5, 64, 64)
    _try(tmp_path, center_px=COR_PX)
    assert tiff.try_slice_paths(out) == []


def _zeros_from(path, first):
    with h5py.File(path, "r+") as file:
        file["exchange/data"][first:] = 0


def _broken_chunk(path):
    """Overwrite compressed data: the file opens, its frames do not."""
    with h5py.File(path, "r+") as file:
        info = file["exchange/data"].id.get_chunk_info(7)
        offset, size = info.byte_offset, info.size
    with open(path, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * size)


@pytest.mark.parametrize(
    ("spoil", "options", "reason"),
    [
        (lambda path: _zeros_from(path, 0), {}, "constant frames: 181 of 181"),
        (lambda path: _zeros_from(path, 100), {}, "constant frames: 81 of 181"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), {}, "truncated HDF5 file"),
        (lambda path: path.write_text("no HDF5"), {}, "not an HDF5 file"),
        (_broken_chunk, {}, "frame"),
        (os.remove, {}, "no such file"),
        (None, {"row": 99}, "99 is not a row of this scan"),
        (None, {"center_px": 500}, "no candidate in 500"),
    ],
)
def test_an_error_of_the_scan_is_a_result(tmp_path, caplog, spoil, options, reason):
    truth = _scan(tmp_path, compression="gzip")
    if spoil is not None:
        spoil(truth.path)
    result, try_tif, try_json, rows_h5 = _try(tmp_path, **options)
    assert re.search(reason, result["failed"])
    # pixels that no other step can read either
    assert list(result) == ["failed", *["unreadable"] * (spoil is _broken_chunk)]
    assert "\n" not in result["failed"]
    assert read_rows(rows_h5).failed == result["failed"]
    assert np.isnan(read_try_stack(try_tif)[1]).all()
    with tifffile.TiffFile(try_tif) as file:
        assert file.imagej_metadata["Labels"] == f"failed: {result['failed']}"
    assert result["failed"] in caplog.text
    assert "Traceback" not in caplog.text  # it is a message for users
    assert sorted(os.listdir(try_json.parent)) == ["rows.h5", "try.json", "try.tif"]


def test_an_error_of_the_sweep_is_a_result(tmp_path, monkeypatch):
    _scan(tmp_path)
    real = step.sweep_batches
    calls = []

    def batches(*args, **options):
        for batch in real(*args, **options):
            calls.append(batch)
            if len(calls) == 3:  # the first is for the window, the second begins the stack
                raise RuntimeError("no such\nluck")
            yield batch

    monkeypatch.setattr(step, "sweep_batches", batches)
    result, _, try_json, rows_h5 = _try(tmp_path, width_px=8)
    assert result == {"failed": "RuntimeError: no such luck"}
    assert read_rows(rows_h5).failed == "RuntimeError: no such luck"
    assert sorted(os.listdir(try_json.parent)) == ["rows.h5", "try.json", "try.tif"]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("steps.try_recon.write_rows", OSError(errno.ENOSPC, "No space left on device")),
        ("steps.try_recon.tiff.write_try_stack", OSError(errno.ENOSPC, "No space left on device")),
        ("stream.try_sweep.sweep_batches", MemoryError()),
    ],
)
def test_errors_of_writing_and_a_lack_of_memory_are_raised(tmp_path, monkeypatch, where, error):
    _scan(tmp_path)
    monkeypatch.setattr(f"tomopipe.{where}", Mock(side_effect=error))
    with pytest.raises(type(error)):
        _try(tmp_path)


def test_little_memory_gives_the_same_stack(tmp_path):
    _scan(tmp_path)
    _, try_tif, _, _ = _try(tmp_path, width_px=5)
    images, _ = read_try_stack(try_tif)
    _try(tmp_path, width_px=5, memory_bytes=1)
    again, _ = read_try_stack(try_tif)  # one grey level for rounding
    assert np.abs(images.astype(int) - again).max() <= 1


def test_pages_are_those_of_the_full_reconstruction(tmp_path):
    _scan(tmp_path)
    result, _, _, rows_h5 = _try(tmp_path, width_px=5, center_px=61, format="tiff")
    rows = read_rows(rows_h5)
    cor_px = np.array(result["cor_px"])
    sinograms = np.repeat(rows.sinograms[:1], len(cor_px), axis=0)
    expected = reconstruct(sinograms, make_plan(rows.theta_rad, 128), cor_px)
    found = [tifffile.imread(path) for path in tiff.try_slice_paths(rows_h5.parent)]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.ptp(expected))
    pages = _to_values(read_try_stack(rows_h5.with_name("try.tif"))[0], result["window"])
    low, high = result["window"]
    np.testing.assert_allclose(pages, expected.clip(low, high), atol=(high - low) / 65535)


def test_a_raw_file_that_the_disk_does_not_give_is_tried_again(tmp_path, refuse_to_open):
    """What is written does not state what was wanted, so that the next run makes it again."""
    truth = _scan(tmp_path)
    refuse_to_open(truth.path, errno.EIO)
    found = try_in(tmp_path, truth.path, made_from={"step": "try_recon"})
    assert "Input/output error" in found["failed"]
    stated = json.loads((tmp_path / "try.json").read_text())["made_from"]
    assert stated == {"step": "try_recon", "not_read": found["failed"]}


def test_a_gap_of_stuck_columns_saturates_no_projection(tmp_path):
    truth = _scan(tmp_path, counts=2e4, dtype="uint16")
    with h5py.File(truth.path, "r+") as file:
        for name in ("data", "data_white"):
            file[f"exchange/{name}"][:, :, 20:30] = 65535  # 8 % of the columns
    result, _, _, rows_h5 = _try(tmp_path)
    rows = read_rows(rows_h5)
    assert result["n_stuck"] == rows.n_stuck == 10 * rows.n_rows
    assert not any(result["bad_frames"].values())
    true = truth.projections().transpose(1, 0, 2)[rows.row_index]
    assert np.abs(rows.sinograms - true)[:, :, 20:30].max() < 0.5 * true.max()


def rolled_scan(tmp_path, roll_deg):
    """A scan without noise on a detector that is rolled by so many degrees."""
    size = {"n_rows": 96, "n_cols": 128, "n_angles": 46, "phantom": "rock"}
    beam = {"vignetting": 0.0, "dust": 0, "dark_adu": 0.0}
    truth = _scan(tmp_path, beam=beam, **size)
    with h5py.File(truth.path, "r+") as file:
        back = Warp(96, 128, -roll_deg)
        file["exchange/data"][...] = apply_warp(file["exchange/data"][()], back, (0, 96), (0, 96))
    return truth


def test_a_roll_is_measured_corrected_and_said(tmp_path):
    rolled_scan(tmp_path, 1.2)
    options = {"width_px": 1, "step_px": 1, "center_px": COR_PX}
    result, _, _, rows_h5 = _try(tmp_path, corrections={"roll_deg": "auto"}, **options)
    assert result["roll_deg"] == pytest.approx(1.2, abs=0.08)
    assert result["pitch"]["rim_px"] < 0.1
    rows = read_rows(rows_h5)
    used = UsedRows("auto", "all")
    folder = tmp_path / "try_center" / "scan_001"
    prediction = predict_in(folder, methods=["classical"], used=used)
    assert prediction["roll_deg"] == result["roll_deg"]
    assert prediction["best_cor_px"] == pytest.approx(COR_PX, abs=0.1)
    assert abs(prediction["roll_px_per_100_rows"]) < 0.15
    assert not any("leans" in text for text in prediction.get("doubts", []))
    leaning = result | {"pitch": {"deg": 0.9, "error_deg": 0.02, "rim_px": 0.9}}
    (folder / "try.json").write_text(json.dumps(leaning))
    prediction = predict_in(folder, methods=["classical"], used=used)
    assert any("leans along the beam by 0.90" in text for text in prediction["doubts"])
    given, _, _, rows_h5 = _try(tmp_path, corrections={"roll_deg": result["roll_deg"]}, **options)
    assert np.array_equal(read_rows(rows_h5).sinograms, rows.sinograms)
    assert "roll_deg" not in given
    _, _, _, rows_h5 = _try(tmp_path, **options)
    assert np.abs(read_rows(rows_h5).sinograms - rows.sinograms).max() > 0.05 * rows.sinograms.max()


def test_a_roll_with_too_large_an_error_is_a_warning(tmp_path, monkeypatch):
    rolled_scan(tmp_path, 0.8)
    monkeypatch.setattr("tomopipe.cor.roll.roll_of", lambda rows: Roll(0.816, 0.043))
    options = {"width_px": 1, "step_px": 1, "center_px": COR_PX}
    result, *_ = _try(tmp_path, corrections={"roll_deg": "auto"}, **options)
    assert "roll_deg" not in result
    text = "a roll of 0.82 ± 0.04 degrees is not corrected"
    folder, methods = tmp_path / "try_center" / "scan_001", {"methods": ["classical"]}
    # the COR of rows 0.66 px from the middle one is another warning
    assert [t[:21] for t in predict_in(folder, **methods)["warnings"]] == ["the axis is tilted: 0"]
    monkeypatch.setattr("tomopipe.cor.roll.measure_roll", lambda prepared, cor_px: None)
    (warning,) = predict_in(folder, **methods)["warnings"]
    assert warning.startswith(text)
    assert warning.endswith("set `preprocess: {roll_deg: 0.82}` if it is right")


def test_a_straight_detector_is_left_alone(tmp_path):
    _scan(tmp_path, n_rows=96, n_angles=46, phantom="rock", counts=2e4)
    options = {"width_px": 1, "step_px": 1}
    result, _, _, rows_h5 = _try(tmp_path, corrections={"roll_deg": "auto"}, **options)
    rows = read_rows(rows_h5)
    plain, _, _, rows_h5 = _try(tmp_path, **options)
    assert np.array_equal(read_rows(rows_h5).sinograms, rows.sinograms)
    assert abs(result["pitch"]["deg"]) < 4 * result["pitch"]["error_deg"]
    assert result == plain | {"pitch": result["pitch"]}


def test_a_pitch_that_cannot_be_measured_is_said(tmp_path, caplog):
    _scan(tmp_path, n_rows=8, n_angles=46)  # too few rows
    caplog.set_level("INFO")
    options = {"width_px": 1, "step_px": 1}
    result, *_ = _try(tmp_path, corrections={"roll_deg": "auto"}, **options)
    assert result["pitch"] is None
    prediction = predict_in(tmp_path / "try_center" / "scan_001", methods=["classical"])
    assert prediction["pitch"] is None
    assert "pitch: cannot be measured" in caplog.messages


def test_slices_that_would_have_one_name_are_refused():
    with pytest.raises(ValueError, match=r"step_px must be 0\.01 or more"):
        TryReconBlock(format="tiff", step_px=0.001)
