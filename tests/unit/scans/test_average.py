"""`input.average`: means of neighbouring projections and of their angles; all else stays."""

import h5py
import numpy as np
import pytest

from tests.exchange_files import write_time_series
from tests.phantoms import write_scan
from tomopipe.config import InputBlock
from tomopipe.errors import ScanError
from tomopipe.prep.normalise import normalise
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.scans.exchange import RawScan, open_scan
from tomopipe.scans.scan import Scan

THETA_DEG = np.arange(20) * 0.5


@pytest.fixture(params=["as it is", "compressed"])
def path(request, tmp_path):
    """Of 20 projections, whose values differ in every pixel, from 0.5 degree to the next."""
    random = np.random.default_rng(0)
    result = write_time_series(tmp_path / "a.h5", THETA_DEG)
    with h5py.File(result, "r+") as file:
        values = random.integers(0, 65536, (20, 4, 5)).astype("u2")
        options = {"chunks": (3, 2, 5), "compression": "gzip"}
        del file["exchange/data"]
        chosen = options if request.param == "compressed" else {}
        file.create_dataset("exchange/data", data=values, **chosen)
    return result


def raw(path):
    with h5py.File(path) as file:
        return file["exchange/data"][()].astype(float)


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({"average": 2}, [[2 * i, 2 * i + 1] for i in range(10)]),
        ({"average": 3}, [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(6)]),  # two are left out
        ({"average": 2, "every": 3}, [[0, 3], [6, 9], [12, 15]]),
        ({"average": 4, "skip_projections": [5]}, [[0, 1, 2, 3], *([4 * i + k for k in range(4)]
                                                                  for i in (2, 3, 4))]),
        ({"average": 2, "window": [3, 8]}, [[3, 4], [5, 6], [7, 8]]),
        ({"average": 2, "columns": [1, 3]}, [[2 * i, 2 * i + 1] for i in range(10)]),
    ],
)  # fmt: skip
def test_pixels_angles_and_a_monitor_are_means_of_the_groups(path, options, groups):
    expected = np.stack([raw(path)[group].mean(axis=0) for group in groups])
    first, last = options.get("columns", (0, 4))
    expected = expected[:, :, first : last + 1]
    n = len(groups)
    with open_scan(path, options=options) as scan:
        assert (scan.n_angles, scan.dtype, scan.n_flats) == (n, np.float32, 2)
        assert scan.theta_deg == pytest.approx([THETA_DEG[group].mean() for group in groups])
        np.testing.assert_allclose(scan.read_rows(1, 3), expected[:, 1:3], rtol=1e-6)
        np.testing.assert_allclose(scan.read_block((1, 3), (0, 4)), expected[1:3], rtol=1e-6)
        np.testing.assert_allclose(scan.read_frames([n - 1, 0]), expected[[-1, 0]], rtol=1e-6)
        means = pytest.approx([np.mean(group) for group in groups])
        assert scan.read_monitor("/exchange/monitor") == means
        assert scan.of_projections(np.arange(20.0)) == means
        assert (scan.flat == 1000).all()
    assert RawScan(path, InputBlock(**options)).metadata().n_in_use == n


def test_blocks_on_the_way_change_nothing(path, monkeypatch):
    with open_scan(path, options={"average": 2}) as scan:
        expected = scan.read_rows(0, 4)
    monkeypatch.setattr("tomopipe.scans.pixels._BATCH_BYTES", 200)  # of two groups
    with open_scan(path, options={"average": 2}) as scan:
        np.testing.assert_array_equal(scan.read_rows(0, 4), expected)


@pytest.mark.parametrize(
    ("theta_deg", "average", "words"),
    [
        (np.mod(111.246 * np.arange(20), 180), 2, "111 degrees apart; only those within 5"),
        (THETA_DEG, 21, "none of 20 projections is in use: input.every, input.average"),
    ],
)
def test_projections_that_are_no_neighbours_are_not_averaged(tmp_path, theta_deg, average, words):
    path = write_time_series(tmp_path / "a.h5", theta_deg)
    with pytest.raises(ScanError, match=words):
        RawScan(path, InputBlock(average=average)).metadata()


def of_slice(scan: Scan):
    sinogram = np.ascontiguousarray(normalise(scan.read_rows(1, 2), scan.flat[1:2], scan.dark[1:2]))
    lines = np.ascontiguousarray(sinogram.swapaxes(0, 1))
    return reconstruct(lines, make_plan(scan.theta_rad, scan.n_cols), 65.2)[0]


@pytest.mark.slow
def test_a_slice_has_less_noise_and_its_grains_lie_where_they_lie(tmp_path):
    """Four of 720 at a time: the noise of all, not of a quarter of them; and no turn."""
    theta_deg = np.arange(720) / 4
    options = {"theta_deg": theta_deg, "cor_px": 65.2, "n_cols": 128, "n_rows": 3}
    write_scan(tmp_path / "still.h5", **options)
    write_scan(tmp_path / "noisy.h5", counts=4000, **options)

    def slices(**chosen):
        for name in ("still.h5", "noisy.h5"):
            with open_scan(tmp_path / name, options=chosen) as scan:
                yield of_slice(scan)

    (still, noisy), (mean, noisy_mean), (_, noisy_every) = map(
        list, (slices(), slices(average=4), slices(every=4))
    )
    y, x = np.indices(still.shape) - 64
    inside = np.hypot(x, y) < 50
    noise = (noisy - still)[inside].std()
    assert np.corrcoef(mean[inside], still[inside])[0, 1] > 0.995
    assert (noisy_mean - mean)[inside].std() == pytest.approx(noise, rel=0.1)
    assert (noisy_every - still)[inside].std() > 1.4 * noise  # the flats are the same
    # turned by the half of a step more, as by the first angle of each group, it would fit worse
    turned = make_plan(np.deg2rad(theta_deg[::4]), 128)
    with open_scan(tmp_path / "still.h5", options={"average": 4}) as scan:
        lines = normalise(scan.read_rows(1, 2), scan.flat[1:2], scan.dark[1:2]).swapaxes(0, 1)
    other = reconstruct(np.ascontiguousarray(lines), turned, 65.2)[0]
    assert (mean - still)[inside].std() < 0.7 * (other - still)[inside].std()
