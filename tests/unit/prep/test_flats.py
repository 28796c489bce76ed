"""Flats: outliers, a beam that drifts between sets, files that do not tell when."""

import tracemalloc
from contextlib import ExitStack
from unittest import mock

import h5py
import numpy as np
import pytest

from tests.phantoms import write_scan
from tomopipe.config import FullReconBlock, PreprocessBlock
from tomopipe.errors import ScanError
from tomopipe.prep.correct import corrections_of
from tomopipe.prep.flats import read_beam
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.resources.memory import job_bytes
from tomopipe.scans.exchange import open_scan
from tomopipe.simulate.phantom import KINDS
from tomopipe.stream import fit_options
from tomopipe.stream.fit_options import VolumeOptions

pytestmark = pytest.mark.slow

N_ROWS, N_COLS, N_ANGLES = 6, 40, 31


def replace_frames(path, data, flats, darks, dtype=np.float32):
    with h5py.File(path, "r+") as file:
        for name, frames in [("data", data), ("data_white", flats), ("data_dark", darks)]:
            del file["exchange"][name]
            file["exchange"][name] = frames.astype(dtype)


@pytest.fixture
def drifting(tmp_path):
    """A scan whose beam moves from one profile to another while it is taken."""
    truth = write_scan(tmp_path / "a.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES)
    x = np.arange(N_COLS) / N_COLS
    before = np.full((N_ROWS, N_COLS), 1.0) + 0.3 * np.sin(9 * x)
    after = np.full((N_ROWS, N_COLS), 0.8) + 0.3 * np.cos(7 * x)
    part = ((np.arange(N_ANGLES) + 0.5) / N_ANGLES)[:, None, None]
    beam = before + part * (after - before)
    darks, flats = np.zeros((2, N_ROWS, N_COLS)), np.repeat([before, after], 4, axis=0)
    frames = [beam * np.exp(-truth.projections()), flats, darks]
    replace_frames(truth.path, *(100 + 1000 * each for each in frames))
    return truth


def line_integrals(scan, **options):
    corrections = corrections_of(scan, PreprocessBlock(**options))
    raw = scan.read_rows(0, N_ROWS)
    return corrections.projections(raw, (0, N_ANGLES), (0, N_ROWS))


def test_interpolated_flats_undo_a_drift_in_any_block(drifting):
    with open_scan(drifting.path) as scan:
        mean = line_integrals(scan)
        corrections = corrections_of(scan, PreprocessBlock(flat_method="interpolate"))
        whole = corrections.projections(scan.read_rows(0, N_ROWS), (0, N_ANGLES), (0, N_ROWS))
        part = corrections.projections(scan.read_block((10, 20), (2, 4)), (10, 20), (2, 4))
    assert np.abs(whole - drifting.projections()).max() < 1e-5
    assert np.abs(mean - drifting.projections()).max() > 0.1
    assert np.array_equal(part, whole[10:20, 2:4])


@pytest.mark.parametrize("are_dated", [False, True])
@pytest.mark.parametrize(("every", "least"), [(1, 1e-5), (2, 0.015)])
def test_a_window_has_the_drift_of_its_time(drifting, are_dated, every, least):
    if are_dated:
        with h5py.File(drifting.path, "r+") as file:
            flats = file["exchange/data_white"][()]
            del file["exchange/data_white"]
            file["exchange/data_white_pre"], file["exchange/data_white_post"] = flats[:4], flats[4:]
    with open_scan(drifting.path, options={"window": [20, 30], "every": every}) as scan:
        corrections = corrections_of(scan, PreprocessBlock(flat_method="interpolate"))
        rows = 0, N_ROWS
        got = corrections.projections(scan.read_rows(*rows), (0, scan.n_angles), rows)
    assert np.abs(got - drifting.projections()[20::every]).max() < least


def test_sets_that_the_file_dates_are_used_where_they_were_taken(drifting, monkeypatch):
    """A set half-way that equals the first: nothing drifts before it."""
    from tomopipe.scans.scan import FlatSet, Scan

    with open_scan(drifting.path) as scan:
        flats = scan.read_flats(0, N_ROWS)
        first, last = flats[:4].mean(axis=0), flats[4:].mean(axis=0)
        sets = (FlatSet(0.0, 0, 2, first), FlatSet(15.0, 2, 4, first), FlatSet(31.0, 4, 8, last))
        monkeypatch.setattr(Scan, "flat_sets", sets)
        beam = read_beam(scan, PreprocessBlock(flat_method="interpolate"))
    flats = beam.flat + (beam.flat - beam.dark) * np.tensordot(beam.weights, beam.shapes, axes=1)
    assert np.allclose(flats[:15], first, rtol=1e-5)
    assert np.allclose(flats[30], first + (last - first) * 15.5 / 16, rtol=1e-5)


N_FLICKERING, N_FLATS, COUNTS = 60, 20, 2e4


def smooth_waves(y, x):
    return np.stack([np.cos(2 * np.pi * x), np.sin(2 * np.pi * (x + y))])


def fine_bands(y, x):
    """Of 4 to 6 pixels."""
    return np.stack([np.sin(y * 150), np.cos(x * 100 + y * 60)])


def flickering(path, patterns, *, strength=0.05, size=0.8, n_rows=24, n_cols=96, n_flats=N_FLATS):
    """Write a scan of a rock, photon noise included; each frame has random weights of patterns.

    The noise of a frame is the same whatever flickers.
    """
    theta_deg = np.linspace(0, 180, N_FLICKERING, endpoint=False)
    phantom = KINDS["rock"](n_cols, n_rows, 3, size=size)
    truth = write_scan(path, n_rows=n_rows, n_cols=n_cols, theta_deg=theta_deg, phantom=phantom)
    random = np.random.default_rng(0)
    shapes = patterns(*np.mgrid[:n_rows, :n_cols] / n_cols)

    def frames(n, transmission):
        beam = 1 + np.tensordot(random.normal(0, strength, (n, len(shapes))), shapes, axes=1)
        counts = COUNTS * beam * transmission
        return 100 + counts + np.sqrt(counts) * random.normal(0, 1, counts.shape)

    data = frames(N_FLICKERING, np.exp(-truth.projections()))
    replace_frames(path, data, frames(n_flats, 1), np.full((2, n_rows, n_cols), 100))
    return truth


def corrected(truth, **options):
    """Return line integrals by an option, and how far a slice is from the truth, rms per pixel."""
    with open_scan(truth.path) as scan:
        corrections = corrections_of(scan, PreprocessBlock(**options))
        frames, rows = (0, scan.n_angles), (0, scan.n_rows)
        lines = corrections.projections(scan.read_rows(*rows), frames, rows)
    plan, row = make_plan(truth.theta_rad, truth.n_cols), truth.n_rows // 2
    both = np.stack([lines[:, row], truth.projections()[:, row]])
    slices = reconstruct(np.ascontiguousarray(both, np.float32), plan, truth.cor_px)
    y, x = np.indices(slices[0].shape) - truth.n_cols / 2
    inside = np.hypot(x, y) < 0.45 * truth.n_cols
    return lines, np.std((slices[0] - slices[1])[inside])


def brightness_and_tilt(y, x):
    return np.stack([np.ones_like(x), x - 0.5])


@pytest.mark.parametrize(
    ("patterns", "most"), [(smooth_waves, 1.02), (brightness_and_tilt, 1.02), (fine_bands, 1.1)]
)
def test_components_follow_the_beam_and_not_the_sample(tmp_path, patterns, most):
    """Fine components keep the noise of the flats that they were made of, 5 % more in all."""
    truth = flickering(tmp_path / "a.h5", patterns)
    steady = flickering(tmp_path / "steady.h5", patterns, strength=0)
    expected = truth.projections()
    lines, error = corrected(truth, flat_method="pca")
    plain, _ = corrected(truth)
    best, least_error = corrected(steady)
    noise = np.std(best - expected)
    assert lines[expected > 0.1].mean() == pytest.approx(expected[expected > 0.1].mean(), rel=0.001)
    assert np.std(lines - expected) < most * noise
    assert np.std(plain - expected) > 3 * noise
    assert error < most * least_error


def test_without_air_the_scan_is_refused(tmp_path):
    """A rock wider than the detector: nothing tells a change of the beam from it."""
    truth = flickering(tmp_path / "a.h5", smooth_waves, size=1.4)
    with pytest.raises(ScanError, match=r"Set preprocess\.flat_method: mean, or"):
        corrected(truth, flat_method="pca")


def test_a_frame_without_beam_hides_no_air(tmp_path):
    truth = flickering(tmp_path / "a.h5", smooth_waves)
    expected, _ = corrected(truth, flat_method="pca")
    with h5py.File(truth.path, "r+") as file:
        file["exchange/data"][7] = 100
    lines, _ = corrected(truth, flat_method="pca")
    others = np.arange(len(lines)) != 7
    np.testing.assert_allclose(lines[others], expected[others], atol=1e-3)


def test_flats_that_differ_by_noise_have_no_components(tmp_path):
    truth = flickering(tmp_path / "a.h5", fine_bands, strength=0)
    assert np.array_equal(corrected(truth, flat_method="pca")[0], corrected(truth)[0])


@pytest.mark.parametrize(("n_rows", "n_flats"), [(24, 6), (1, 20), (2, 3), (1, 2)])
def test_few_flats_and_rows_have_components(tmp_path, n_rows, n_flats):
    """Few flats differ in few ways, which the projections share only in part."""
    truth = flickering(tmp_path / "a.h5", smooth_waves, n_rows=n_rows, n_flats=n_flats)
    lines, _ = corrected(truth, flat_method="pca")
    plain, _ = corrected(truth)
    expected = truth.projections()
    assert np.std(lines - expected) < np.std(plain - expected)
    assert lines.mean() == pytest.approx(expected.mean(), rel=0.02)


def test_one_flat_has_no_components(drifting):
    with h5py.File(drifting.path, "r+") as file:
        first_flat = file["exchange/data_white"][:1]
        del file["exchange/data_white"]
        file["exchange/data_white"] = first_flat
    recipe = PreprocessBlock(flat_method="pca")
    with open_scan(drifting.path) as scan, pytest.raises(ScanError, match="several flats"):
        read_beam(scan, recipe)


def test_median_ignores_an_outlier(drifting):
    with h5py.File(drifting.path, "r+") as file:
        file["exchange/data_white"][3, 2] = 60000
        file["exchange/data_white"][:, 4] = np.arange(8)[:, None] + 500
    with open_scan(drifting.path) as scan:
        beam = read_beam(scan, PreprocessBlock(flat_method="median"))
        flats = scan.read_flats(0, N_ROWS)
    assert np.array_equal(beam.flat, np.median(flats, axis=0).astype(np.float32))
    assert np.all(beam.flat[4] == 503.5)


def test_fewer_flats_than_sets_are_refused(drifting):
    recipe = PreprocessBlock(flat_method="interpolate", flat_sets=9)
    with open_scan(drifting.path) as scan, pytest.raises(ScanError, match="9 sets of flats"):
        read_beam(scan, recipe)


@pytest.mark.parametrize("are_dated", [False, True])
def test_many_sets_are_held_once_and_counted_for_the_memory(tmp_path, are_dated):
    """Besides the mean flat, the dark and which pixels are stuck a frame for each set."""
    size, n_sets = {"n_rows": 200, "n_cols": 300}, 12
    path = write_scan(tmp_path / "a.h5", n_angles=24, beam={"n_flats": n_sets}, **size).path
    order = [name for _ in range(n_sets) for name in ["data_white", "data", "data"]]
    if are_dated:
        with h5py.File(path, "r+") as file:
            file["defaults/HDF5FrameLocation"] = [f"/exchange/{name}".encode() for name in order]
    recipe = PreprocessBlock(flat_method="interpolate", flat_sets=2 if are_dated else n_sets)
    with open_scan(path) as scan:
        tracemalloc.start()
        beam = read_beam(scan, recipe)
        held_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(beam.shapes) == n_sets - 1
        assert held_bytes < (n_sets + 4) * beam.flat.nbytes + scan.flat_blocks.nbytes
        target = VolumeOptions(150.0, FullReconBlock(), recipe, None)
        corrections = corrections_of(scan, recipe, beam)
        more = {"device": "cpu", "memory_bytes": 2**31}
        with ExitStack() as stack, mock.patch.object(fit_options, "job_bytes") as counted:
            counted.side_effect = job_bytes
            fit_options.fit_task(scan, target, corrections, (0.0, 0.0), stack=stack, **more)
    assert {call.args[0].n_shapes for call in counted.call_args_list} == {n_sets - 1}


def test_flats_and_darks_exchanged_are_named_with_their_levels(drifting):
    with h5py.File(drifting.path, "r+") as file:
        group = file["exchange"]
        for old, new in [("data_white", "a"), ("data_dark", "data_white"), ("a", "data_dark")]:
            group.move(old, new)
    message = r"flats \(\S*data_white\) are nowhere brighter than darks \(\S*data_dark\).* 100 and"
    with open_scan(drifting.path) as scan, pytest.raises(ScanError, match=message):
        read_beam(scan, PreprocessBlock())


def test_no_flats_at_all(drifting):
    recipe = PreprocessBlock(flats="none", darks="none", flat_method="median")
    with open_scan(drifting.path, flats="none", darks="none") as scan:
        assert np.all(read_beam(scan, recipe).flat == 1)


def counted(truth, dtype, top, air, *, stuck=None, middle_px=20):
    """Write a scan as a camera counts it, up to `top`, whose pixels `stuck` count nothing else."""
    rng = np.random.default_rng(1)
    beam = air * np.exp(-(((np.arange(N_COLS) - middle_px) / 40) ** 2)) * np.ones((N_ROWS, 1))
    data, flats = beam * np.exp(-truth.projections()), np.repeat(beam[None], 5, axis=0)
    frames = [data, flats, np.zeros((2, N_ROWS, N_COLS))]
    frames = [each + rng.normal(0, 2e-3 * top, each.shape) for each in frames]
    frames = [np.clip(np.round(each), 0, top) for each in frames]
    if stuck is not None:
        frames[0][:, stuck] = frames[1][:, stuck] = top
    replace_frames(truth.path, *frames, dtype)


STUCK = np.zeros((N_ROWS, N_COLS), bool)
STUCK[:, 12:14] = STUCK[2, 30] = STUCK[3:5, 25] = True


@pytest.mark.parametrize("options", [{}, {"flat_method": "median"}, {"flat_method": "pca"}])
@pytest.mark.parametrize(
    ("dtype", "top"),
    [("u1", 255), ("u2", 4095), ("u2", 65535), ("i2", 32767), ("u4", 2**32 - 1), ("f4", 3e38)],
)
def test_pixels_stuck_at_the_largest_number_are_interpolated(tmp_path, dtype, top, options):
    truth = write_scan(tmp_path / "a.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES)
    counted(truth, dtype, top, 0.4 * top, stuck=STUCK)
    with open_scan(truth.path) as scan:
        assert np.array_equal(scan.stuck, STUCK)
        off = np.abs(line_integrals(scan, **options) - truth.projections())
    steps = np.abs(np.diff(truth.projections(), axis=2)).max()  # from a column to the next
    assert off[:, ~STUCK].max() < 0.15  # noise
    assert off[:, STUCK].max() < steps + 0.15  # of the column beside
    assert truth.projections()[:, STUCK].max() > 2 * steps + 0.15  # so far were they off


@pytest.mark.parametrize(("air", "middle_px"), [(1.015, 20), (1.015, 39), (1.2, 20)])
def test_a_beam_that_saturates_the_camera_is_no_stuck_pixel(tmp_path, air, middle_px):
    truth = write_scan(tmp_path / "a.h5", n_rows=N_ROWS, n_cols=N_COLS, n_angles=N_ANGLES)
    counted(truth, "u2", 65535, air * 65535, middle_px=middle_px)
    with h5py.File(truth.path, "r") as file:
        flats = file["exchange/data_white"][()]
    assert (flats == 65535).all(axis=0).any()
    with open_scan(truth.path) as scan:
        assert not scan.stuck.any()


def test_flats_of_another_scale_are_named_with_their_type(drifting):
    with h5py.File(drifting.path, "r+") as file:
        flats = file["exchange/data_white"][()]
        del file["exchange/data_white"]
        file["exchange/data_white"] = (flats // 256).astype("u1")
    message = r"set preprocess.flats to another scan; they are uint8, projections float32: of "
    with open_scan(drifting.path) as scan, pytest.raises(ScanError, match=message):
        read_beam(scan, PreprocessBlock())
