"""tomopipe in a notebook: the page's code runs, and gives what the workflow gives."""

import json
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest

import tomopipe as tp
from tests import pretend_cupy
from tests.phantoms import write_scan
from tests.pretend_cupy import XP
from tests.pretend_device import Watch, cupy_is
from tests.report_campaign import Made
from tests.step_calls import volume_of
from tomopipe.errors import ScanError, TomopipeError
from tomopipe.notebook import VolumeOnDisk
from tomopipe.recon.gpu import claimed_gpu
from tomopipe.volumes.volume_read import open_volume

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "notebook.md"
COR_PX = 66.2


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """A scan, in a campaign that has its volume and its COR."""
    folder = tmp_path_factory.mktemp("notebook")
    path = folder / "raw" / "tooth_001.h5"
    scan = write_scan(path, cor_px=COR_PX, n_rows=12, n_angles=181, counts=40000)
    (path.parent / "tooth_002.h5").touch()
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (folder / "results").mkdir()
    cors = {name: {"cor_px": 60.0, "source": "auto"} for name in ("tooth_001", "gone_1")}
    (folder / "results" / "cor.json").write_text(json.dumps(cors))
    (folder / "scans.tsv").write_text(f"scan\tcor_px\ntooth_001\t{COR_PX}\n")
    volume_of(path, folder / "results" / "tooth_001_rec.h5", cor_px=COR_PX)
    return scan


@pytest.fixture(scope="module")
def page(truth):
    """What the names of the page hold after its code has run."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(truth.path.parents[1])
        for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
            exec(code, names)
    return names


def values_of(picture):
    return np.asarray(picture, float)


def test_eight_lines_lead_from_a_file_to_a_picture(truth, monkeypatch):
    """The picture is the slice, to the rounding of grey values; the COR is right to 0.25 px."""
    monkeypatch.chdir(truth.path.parents[1])
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[1]
    assert len(code.split("\n\n")) == 2
    assert len([line for line in code.splitlines() if line]) == 8
    *lines, last = code.splitlines()
    names = {}
    exec("\n".join(lines), names)
    picture = eval(last, names)
    assert names["cor"].cor_px == pytest.approx(COR_PX, abs=0.25)
    middle = names["slices"][6]
    assert picture.size == middle.shape[::-1]
    low, high = np.percentile(middle, (0.5, 99.5))
    expected = 255 * np.clip((middle - low) / (high - low), 0, 1)
    assert np.abs(values_of(picture) - expected).max() <= 0.51


def test_a_campaign_has_cor_and_volume_of_each_scan(truth):
    folder = truth.path.parents[1]
    campaign = tp.open_campaign(folder / "raw")  # found from within
    assert (list(campaign), len(campaign)) == (["tooth_001", "tooth_002"], 2)
    assert repr(campaign) == f"{folder}: 2 scans, 1 with a COR"
    scan = campaign["tooth_001.h5"]
    assert (repr(scan), scan.cor_px) == ("tooth_001: 66.20 px, manual", COR_PX)  # of the table
    empty = campaign["tooth_002"]
    assert (empty.cor_px, repr(empty)) == (None, "tooth_002: no COR, pending")
    with h5py.File(folder / "results" / "tooth_001_rec.h5") as file:
        expected = file["exchange/data"][()]
    volume = scan.volume
    assert volume.shape == expected.shape
    parts = (slice(2, 9, 3), slice(5, 5), (slice(None), 5), (4, slice(2), 7))
    for key in (3, -1, np.int64(2), *parts):
        np.testing.assert_array_equal(volume[key], expected[key])
    np.testing.assert_array_equal(np.asarray(volume), expected)
    assert sum(1 for _ in volume) == len(expected)
    with pytest.raises(TomopipeError, match="no volume yet"):
        empty.volume  # noqa: B018
    with pytest.raises(TomopipeError, match=r"no scan tooth_01 in .*did you mean tooth_00"):
        campaign["tooth_01"]
    with pytest.raises(TomopipeError, match="expected one scan, got tooth_001, tooth_002"):
        campaign["tooth_*"]


@pytest.fixture
def judged(tmp_path):
    """A campaign: a COR of the network, one by hand, an aborted scan, and one without a COR."""
    made = Made(tmp_path)
    made.results.mkdir(exist_ok=True)
    (tmp_path / "raw").mkdir()
    for number in range(1, 5):
        (tmp_path / "raw" / f"a_{number}.h5").touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\tnote\na_2\t51.5\tby eye\n")
    made.scan("a_1", series="a", index=1)
    made.predict("a_1", 50.12, confidence=0.93)
    made.resolve("a_1", 50.12, "ai")
    made.volume("a_1")
    made.scan("a_2", series="a", index=2, manual="51.5", note="by eye")
    made.predict("a_2", 50.4, confidence=0.97)
    made.resolve("a_2", 51.5, "manual")
    made.scan("a_3", series="a", index=3, keep=False, reason="aborted: 30 frames for 181 angles")
    made.scan("a_4", series="a", index=4)
    made.predict("a_4", 49.0, confidence=0.2, reason="second candidate")
    made.write()
    return tp.open_campaign(tmp_path)


def test_a_scan_of_a_campaign_has_state_source_confidence_and_reason(judged):
    found = {name: judged[name] for name in judged}
    first, by_hand, aborted, without = found.values()
    assert (first.state, first.source, first.confidence) == ("ok", "ai", 0.93)
    assert (by_hand.state, by_hand.source, by_hand.confidence) == ("manual", "manual", None)
    assert (aborted.state, aborted.reason) == ("skipped", "aborted: 30 frames for 181 angles")
    assert (without.state, without.cor_px) == ("doubtful", None)
    assert "second candidate" in without.reason
    with pytest.raises(TomopipeError, match=r"a_3: .*skipped \(aborted: 30 .*Repair or complete"):
        aborted.volume  # noqa: B018
    with pytest.raises(TomopipeError, match=r"doubtful .*tomopipe cor set a_4 VALUE"):
        without.volume  # noqa: B018
    with pytest.raises(TomopipeError, match=r"no volume yet\. Run: tomopipe run"):
        by_hand.volume  # noqa: B018


def test_a_campaign_is_a_table_with_pandas_and_without(judged, monkeypatch):
    table = judged.table()
    assert list(table.scan) == ["a_1", "a_2", "a_3", "a_4"]
    assert list(table.state) == ["ok", "manual", "skipped", "doubtful"]
    assert table.cor_px[:2].tolist() == [50.12, 51.5]
    assert (table.cor_px.isna().tolist(), table.note[1]) == ([False, False, True, True], "by eye")
    assert [bool(path) for path in table.volume] == [True, False, False, False]
    monkeypatch.setitem(sys.modules, "pandas", None)
    rows = judged.table()
    assert [row["scan"] for row in rows] == list(table.scan)
    assert list(rows[0]) == list(table.columns)


def test_a_search_tells_its_parts_and_their_answers(truth):
    with tp.open_scan(truth.path) as scan:
        sinograms = tp.correct(scan.read_rows(0, scan.n_rows), scan.flat, scan.dark)
        lines = []
        cor = tp.find_cor(sinograms, scan.theta_deg, methods=["classical"], progress=lines.append)
    assert [line.partition(":")[0] for line in lines] == ["1 of 3", "2 of 3", "classical", "3 of 3"]
    assert lines[2].startswith(f"classical: {cor.cor_px:.2f} px, confidence ")


@pytest.mark.parametrize("name", ["v.h5", "v.zarr", "v"])
def test_slices_that_are_saved_are_read_as_they_were(tmp_path, name):
    volume = np.random.default_rng(5).normal(size=(5, 12, 14)).astype(np.float32)
    path = tp.save_volume(volume, tmp_path / name, voxel_size_um=0.65)
    with open_volume(path) as written:
        assert (written.shape, written.attributes["voxel_size_um"]) == (volume.shape, 0.65)
        np.testing.assert_array_equal(
            np.stack([written.read_slice(row) for row in range(5)]), volume
        )
    with pytest.raises(TomopipeError, match=r"exists\. Give another name, or overwrite=True"):
        tp.save_volume(volume, path)
    on_disk = VolumeOnDisk(path, volume.shape)  # one that is read slice by slice
    other = tp.save_volume(on_disk, tmp_path / f"8{name}", dtype="uint8", value_range=(-4, 4))
    with open_volume(other) as written:  # to half a step
        assert np.abs(written.read_slice(3) - volume[3].clip(-4, 4)).max() <= 0.51 * 8 / 255
    tp.save_volume(2 * volume, path, overwrite=True)
    np.testing.assert_array_equal(VolumeOnDisk(path, volume.shape)[2], 2 * volume[2])


def test_what_is_no_volume_is_not_saved(tmp_path):
    for volume, options, says in (
        (np.zeros((3, 3)), {}, "volume: expected shape"),
        (np.eye(4)[None], {"dtype": "int4"}, "dtype"),
        (np.eye(4)[None], {"compression": "rar"}, "compression: expected one of"),
    ):
        with pytest.raises((ValueError, TypeError), match=says):
            tp.save_volume(volume, tmp_path / "v.h5", **options)
    with pytest.raises(TomopipeError, match="finite"):
        tp.save_volume(np.full((2, 3, 3), np.nan), tmp_path / "v.h5")
    assert not (tmp_path / "v.h5").exists()


def test_many_large_slices_are_one_small_picture():
    """Of 49 slices 25, each of a fifth of the width; an average keeps the mean."""
    ramp = np.arange(49, dtype=np.float32)[:, None, None] * np.ones((49, 700, 700), np.float32)
    ramp[:, ::2] += 0.5
    ramp[0, 0, 0] = np.nan
    picture = tp.show(ramp)
    assert picture.size == (5 * 234, 5 * 234)
    values = values_of(picture)[117::234, 117::234].ravel()
    np.testing.assert_allclose(values, np.linspace(0, 255, 25), atol=8)
    assert (np.diff(values) > 0).all()
    assert tp.show([ramp[3, :10, :20], ramp[4, :10, :20]]).size == (40, 10)
    for slices in (np.zeros(3), np.zeros((0, 3, 3)), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="slices: expected"):
            tp.show(slices)


def test_its_volume_is_that_of_the_workflow(page, truth, tmp_path):
    cor_px = page["cor"].best_cor_px
    corrections = {"stripes": {"method": "gated"}}
    options = {"filter": "hann", "corrections": corrections}
    expected = volume_of(truth.path, tmp_path / "v.h5", cor_px=cor_px, **options)
    # the edge slopes are measured on fewer projections there
    np.testing.assert_allclose(page["volume"], expected, atol=2e-3 * np.ptp(expected))


def test_a_sweep_is_the_slice_at_each_cor(page):
    sinograms, theta_deg = page["sinograms"], page["theta_deg"]
    middle = len(sinograms) // 2
    image = tp.reconstruct(sinograms[[middle]], theta_deg, page["cors_px"][1])[0]
    np.testing.assert_allclose(page["tries"][1], image, atol=1e-4 * np.ptp(image))


def test_projections_serve_as_sinograms_do(page):
    projections = page["sinograms"].transpose(1, 0, 2)
    assert tp.find_cor(projections, page["theta_deg"]) == page["cor"]


def test_one_sinogram_is_enough_and_the_search_can_be_elsewhere(page):
    sinogram, theta_deg = page["sinograms"][6], page["theta_deg"]
    found = tp.find_cor(sinogram, theta_deg, center_px=60.0, width_px=20)
    assert found.best_cor_px == pytest.approx(COR_PX, abs=1)


@pytest.mark.parametrize("call", [tp.find_cor, lambda s, t: tp.reconstruct(s, t, COR_PX)])
def test_arrays_that_do_not_belong_together_are_refused(page, call):
    sinograms, theta_deg = page["sinograms"], page["theta_deg"]
    across = sinograms.transpose(2, 0, 1)
    for values, angles in ((sinograms, theta_deg[:91]), (across, theta_deg), (across[0, 0], 5.0)):
        with pytest.raises(ValueError, match=r"sinograms: expected shape .*; got \("):
            call(values, angles)


@pytest.mark.parametrize("cor_px", [-5, 900.0, np.nan])
def test_a_cor_off_the_detector_is_refused(page, cor_px):
    sinograms, theta_deg = page["sinograms"], page["theta_deg"]
    with pytest.raises(ValueError, match=r"cor_px: expected columns from 0 to \d+; got"):
        tp.reconstruct(sinograms, theta_deg, cor_px)
    with pytest.raises(ValueError, match="cor_px: expected columns"):
        tp.sweep(sinograms[0], theta_deg, [COR_PX, cor_px])
    with pytest.raises(ValueError, match="center_px: expected columns"):
        tp.find_cor(sinograms, theta_deg, center_px=cor_px)


@pytest.mark.parametrize("span_deg", [180, 360])
def test_radians_are_refused_with_the_conversion(page, span_deg):
    sinograms = page["sinograms"]
    theta_deg = np.linspace(0, span_deg, sinograms.shape[1], endpoint=False)
    calls = (
        lambda angles: tp.reconstruct(sinograms[:1], angles, COR_PX),
        lambda angles: tp.sweep(sinograms[0], angles, COR_PX),
        lambda angles: tp.find_cor(sinograms[0], angles),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"theta_deg spans .* pass np\.rad2deg\(theta_rad\)"):
            call(np.deg2rad(theta_deg))


def test_other_odd_angles_are_warned_of(page):
    sinograms, theta_deg = page["sinograms"][:1], page["theta_deg"]
    few = sinograms[:, :4], np.deg2rad(theta_deg[[0, 60, 120, 179]])
    for values, angles in ((sinograms, np.rad2deg(theta_deg)), (sinograms, theta_deg / 60), few):
        with pytest.warns(UserWarning, match="expected degrees") as said:
            tp.reconstruct(values, angles, COR_PX)
        assert said[0].filename == __file__


def test_the_answer_serves_as_a_cor(page):
    sinograms, theta_deg, cor = page["sinograms"], page["theta_deg"], page["cor"]
    volume = tp.reconstruct(sinograms[:1], theta_deg, cor)
    np.testing.assert_array_equal(volume, tp.reconstruct(sinograms[:1], theta_deg, cor.cor_px))
    (image,) = tp.sweep(sinograms[0], theta_deg, cor)
    np.testing.assert_allclose(image, volume[0], atol=1e-4 * np.ptp(image))
    np.testing.assert_allclose(cor + np.arange(-1, 2), cor.cor_px + np.arange(-1, 2))


def test_an_answer_that_was_not_accepted_is_no_cor(page):
    sinograms, theta_deg = page["sinograms"], page["theta_deg"]
    unsure = tp.find_cor(sinograms, theta_deg, methods=["ai"], min_confidence=1.0)
    noise = np.random.default_rng(1).normal(size=sinograms.shape)
    nothing = tp.find_cor(noise, theta_deg)
    for answer, says in ((unsure, "pass best_cor_px"), (nothing, "nothing rotates")):
        assert answer.cor_px is None
        for call in (tp.reconstruct, lambda s, *rest: tp.sweep(s[0], *rest)):
            with pytest.raises(ValueError, match=f"no COR accepted .*{says}"):
                call(sinograms, theta_deg, answer)
    assert tp.reconstruct(sinograms[:1], theta_deg, unsure.best_cor_px).any()


def test_what_a_notebook_shows(page, truth):
    with tp.open_scan(truth.path) as scan:
        np.testing.assert_array_equal(scan.theta_deg, page["theta_deg"])
        shown = repr(scan)
    n_angles, n_rows, n_cols = page["projections"].shape
    assert shown.startswith(f"{truth.path}: /exchange/data (DXchange)")
    assert f"{n_angles} projections of {n_rows} x {n_cols} pixels" in shown
    assert f"0 to {page['theta_deg'][-1]:g} degrees" in shown
    cor = page["cor"]
    assert f"{cor.cor_px:.2f} px, confidence {cor.confidence:.2f}" in repr(cor)
    assert len(shown.splitlines()) == 3
    assert "\n" not in repr(cor)


def test_what_needs_a_file_is_refused(page):
    arrays = page["projections"], page["flat"], page["dark"]
    with pytest.raises(ValueError, match="tomopipe run"):
        tp.correct(*arrays, flat_method="pca")
    with pytest.raises(ValueError, match=r"correct: preprocess.stripe: .* did you mean stripes\?"):
        tp.correct(*arrays, stripe={})
    with pytest.raises(ScanError, match="needs energy_kev, pixel_size_um: give these as arg"):
        tp.correct(*arrays, distance_mm=50, phase={"method": "paganin"})
    with pytest.raises(ValueError, match=r"25000 keV is implausible .* is it in eV"):
        tp.correct(*arrays, energy_kev=25000)
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        tp.guess  # noqa: B018


def test_counts_that_cannot_be_corrected_are_refused_or_warned_of(page):
    raw, flat, dark = (np.asarray(page[key]) for key in ("projections", "flat", "dark"))
    nothing = np.full(raw.shape[1:], np.nan)
    for flats, darks in ((dark, flat), (nothing, dark), (flat, nothing)):
        with pytest.raises(ValueError, match="flats: expected brighter than darks"):
            tp.correct(raw, flats, darks)
    for flats in (np.zeros((0, *raw.shape[1:])), flat[..., 1:]):
        with pytest.raises(ValueError, match=r"flats: expected one or more frames of shape \("):
            tp.correct(raw, flats, dark)
    with pytest.raises(ValueError, match="projections: expected shape"):
        tp.correct(raw[0], flat, dark)
    few = np.array(flat if flat.ndim == 2 else flat.mean(axis=0), float)
    few[:, : few.shape[1] * 2 // 3] = 0
    with pytest.warns(UserWarning, match="than darks at only 3[0-9] % of the pixels") as said:
        tp.correct(raw, few, dark)
    assert said[0].filename == __file__
    lost = np.array(raw, float)
    lost[:, :, 5] = np.nan
    with pytest.warns(UserWarning, match=f"{lost[:, :, 5].size} of {lost.size} values are not"):
        tp.correct(lost, flat, dark)


def test_values_that_are_not_finite_are_warned_of_and_count_as_0(page):
    sinograms = np.array(page["sinograms"][:1])
    sinograms[0, 3, 40] = np.nan
    calls = (
        lambda values: tp.reconstruct(values, page["theta_deg"], COR_PX)[0],
        lambda values: tp.sweep(values[0], page["theta_deg"], [COR_PX])[0],
    )
    for call in calls:
        with pytest.warns(UserWarning, match=f"sinograms: 1 of {sinograms.size} values") as said:
            image = call(sinograms)
        assert said[0].filename == __file__
        assert np.isfinite(image).all()


def test_what_cannot_be_asked_is_refused_in_words(page):
    sinograms, theta_deg = page["sinograms"], np.array(page["theta_deg"])
    for methods in (["vo"], "ai", ["dinov2"], ()):
        with pytest.raises(ValueError, match="methods: expected a list of ai, classical"):
            tp.find_cor(sinograms, theta_deg, methods=methods)
    for width_px in (0, -3, np.nan):
        with pytest.raises(ValueError, match="width_px: expected a number above 0"):
            tp.find_cor(sinograms, theta_deg, width_px=width_px)
    with pytest.raises(ValueError, match=rf"cor_px: expected one or {len(sinograms)}; got 2"):
        tp.reconstruct(sinograms, theta_deg, [COR_PX, COR_PX])
    with pytest.raises(ValueError, match="sinograms: expected shape"):
        tp.find_cor(sinograms[:0], theta_deg)
    theta_deg[7] = np.nan
    with pytest.raises(ValueError, match="theta_deg: expected finite angles; number 7"):
        tp.find_cor(sinograms, theta_deg)


def test_the_name_alone_loads_nothing():
    code = (
        "import sys, tomopipe; sys.exit('numpy' in sys.modules or 'find_cor' not in dir(tomopipe))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("is_free", [True, False])
def test_a_gpu_is_locked_by_a_call_and_left_to_jobs(page, tmp_path, monkeypatch, is_free):
    """To 1e-4 of the range; rows are sent some at a time, and none is left there."""
    sinograms, theta_deg = np.tile(page["sinograms"][:1], (18, 1, 1)), page["theta_deg"]
    cor_px = COR_PX + np.linspace(-1, 1, 18)
    calls = (
        lambda device: tp.reconstruct(sinograms, theta_deg, cor_px, device=device),
        lambda device: tp.sweep(sinograms[0], theta_deg, cor_px, device=device),
    )
    for call in calls:
        expected = call("cpu")
        with cupy_is(monkeypatch, XP), ExitStack() as job:
            watch = Watch(monkeypatch, tmp_path)
            if not is_free:
                job.enter_context(claimed_gpu(XP))
            for device in ("cuda", "auto"):  # the first of which may share one
                result = call(device)
                np.testing.assert_allclose(result, expected, atol=1e-4 * np.ptp(expected))
            assert is_free or (result == expected).all()
        # the first batch is of the check that a process makes once
        assert watch.is_held == [True] * (5 if is_free else 3)
        assert watch.n_left == [0, 0]
    monkeypatch.setitem(pretend_cupy.MEMORY, 0, pretend_cupy.Memory(free_bytes=5_000_000))
    with cupy_is(monkeypatch, XP):
        assert (call("auto") == expected).all()
    assert len(watch.is_held) == (6 if is_free else 4)
