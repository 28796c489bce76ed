"""Counts and files of simulated scans against what was put in."""

import h5py
import numpy as np
import pytest

from tests.exchange_files import read_metadata
from tests.phantoms import sphere, write_scan
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.metadata import incomplete
from tomopipe.simulate.simulated_scan import OPEN_BEAM_ADU, Beam, Detector


def read(path):
    with h5py.File(path) as file:
        return [file[f"/exchange/{name}"][()] for name in ("data", "data_white", "data_dark")]


def attenuation(path):
    """What flats and darks make of the counts."""
    data, flats, darks = (frames.astype(float) for frames in read(path))
    dark = darks.mean(axis=0)
    return -np.log((data - dark).clip(1) / (flats.mean(axis=0) - dark))


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-5), ("uint16", 1e-3), ("uint8", 0.1)])
def test_flats_and_darks_restore_the_line_integrals(tmp_path, dtype, off):
    truth = write_scan(tmp_path / "a.h5", n_angles=9, dtype=dtype)
    assert read(truth.path)[0].dtype == dtype
    np.testing.assert_allclose(attenuation(truth.path), truth.projections(), atol=off)
    # Something to restore: dust and vignetting in the flats.
    assert np.ptp(read(truth.path)[1][0]) > 0.1 * read(truth.path)[1].max()


def test_noise_is_that_of_the_photons():
    counts, read_noise = 400.0, 6.0
    beam = Beam(counts=counts, read_noise_adu=read_noise, n_darks=300)
    detector = Detector(beam, 6, 50, seed=3)
    gain = OPEN_BEAM_ADU / counts
    frames = detector.frames(np.full((2000, 6, 50), 0.25)) - detector.offset_adu
    expected = 0.25 * OPEN_BEAM_ADU * detector.open_beam
    np.testing.assert_allclose(frames.mean(axis=0), expected, rtol=0.02)
    variance = frames.var(axis=0, ddof=1).mean()
    assert variance == pytest.approx(gain * expected.mean() + read_noise**2, rel=0.02)
    darks = detector.darks() - detector.offset_adu
    assert darks.std() == pytest.approx(read_noise, rel=0.02)
    assert abs(darks.mean()) < 0.1


def test_dust_lies_mirrored_and_does_not_rotate(tmp_path):
    vacuum = [sphere(0, 0, -50, 1)]
    beam = {"fixed_dust_px": 41.5, "fixed_dust_depth": 0.2}
    truth = write_scan(tmp_path / "a.h5", n_angles=5, n_cols=96, phantom=vacuum, beam=beam)
    recorded = attenuation(truth.path)
    assert recorded.max() > 0.05
    np.testing.assert_allclose(recorded, recorded[:1].repeat(5, axis=0), atol=1e-5)
    np.testing.assert_allclose(recorded[..., :84], recorded[..., 83::-1], atol=1e-5)
    assert np.abs(recorded - recorded[..., ::-1]).max() > 0.05


def test_stripes_are_columns_of_wrong_gain(tmp_path):
    beam = {"stripes": 6, "stripe_gain": 0.05}
    truth = write_scan(tmp_path / "a.h5", n_angles=7, seed=2, beam=beam)
    wrong = attenuation(truth.path) - truth.projections()
    columns = np.flatnonzero(np.abs(wrong).max(axis=(0, 1)) > 1e-3)
    assert 3 <= columns.size <= 6
    np.testing.assert_allclose(wrong, wrong[0, 0] * np.ones_like(wrong), atol=1e-4)


def test_a_large_scan_is_written_in_blocks(tmp_path):
    bead = [sphere(20, 30, 250, 100)]
    truth = write_scan(tmp_path / "a.h5", n_angles=17, n_rows=512, n_cols=1024, phantom=bead)
    np.testing.assert_allclose(attenuation(truth.path)[-1], truth.projections()[-1], atol=1e-5)


def test_nxtomo_holds_the_same_scan(tmp_path):
    options = {"theta_deg": [0, 90.5, 13, 40, 50, 60, 180], "counts": 5000}
    options |= {"pixel_size_um": 0.65, "energy_kev": 25.1}
    truth = write_scan(tmp_path / "a.h5", **options)
    write_scan(tmp_path / "a.nx", format="nxtomo", **options)
    with open_scan(truth.path) as scan, open_scan(tmp_path / "a.nx") as other:
        assert np.array_equal(other.read_rows(0, 4), scan.read_rows(0, 4))
        assert np.array_equal(other.read_flats(0, 4), scan.read_flats(0, 4))
        assert np.array_equal(other.dark, scan.dark)
        assert other.flat_positions.tolist() == [0, 0, 7]
        assert np.allclose(other.theta_rad, scan.theta_rad)
        assert np.allclose(scan.theta_rad, np.deg2rad(options["theta_deg"]))
        for either in (scan, other):
            assert either.pixel_size_um == pytest.approx(0.65)
            assert either.energy_kev == pytest.approx(25.1)
    write_scan(tmp_path / "b.nx", format="nxtomo", n_frames=3, n_angles=7)
    assert incomplete(read_metadata(tmp_path / "b.nx")).startswith("aborted: 3 frames for 7 angles")
