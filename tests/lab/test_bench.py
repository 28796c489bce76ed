import numba
import numpy as np
import pytest
from tomopipe_lab.bench import cpu, measure, phantoms
from tomopipe_lab.bench.engines import ENGINES, OURS, Engine
from tomopipe_lab.bench.measure import Interval, median_interval
from tomopipe_lab.bench.phantoms import engine_axis

BY_NAME = {engine.name: engine for engine in ENGINES}


def test_the_interval_holds_the_median_that_often():
    rng = np.random.default_rng(1)
    intervals = [median_interval(rng.normal(3, 1, 25)) for _ in range(200)]
    held = np.mean([found.low <= 3 <= found.high for found in intervals])
    assert 0.9 <= held <= 0.99
    assert np.mean([found.high - found.low for found in intervals]) == pytest.approx(0.94, abs=0.1)


def test_the_order_rotates_and_each_is_charged_its_own_time():
    now, order = [0.0], []

    def taking(name, seconds):
        def run():
            order.append(name)
            now[0] += seconds

        return run

    runs = {name: taking(name, seconds) for name, seconds in [("a", 1), ("b", 2), ("c", 4)]}
    seconds = measure.rotate(runs, 4, clock=lambda: now[0])
    assert "".join(order) == "abcbcacababc"
    assert {name: set(values) for name, values in seconds.items()} == {"a": {1}, "b": {2}, "c": {4}}


@pytest.mark.parametrize("kind", ["sharp", "smooth"])
@pytest.mark.parametrize("n_cols", [64, 65])
def test_sinogram_and_image_of_a_phantom_agree(kind, n_cols):
    theta_rad, cor_px, axis = np.array([0, 0.7, np.pi / 2, 3.0]), n_cols / 2 + 0.3, (33.2, 30.6)
    sinogram = getattr(phantoms, f"{kind}_sinogram")(n_cols, theta_rad, cor_px)
    image = getattr(phantoms, f"{kind}_image")(n_cols, axis)
    np.testing.assert_allclose(sinogram.sum(axis=1), image.sum(), rtol=0.005)
    x, y = (np.arange(n_cols) - centre for centre in axis)
    mean_x, mean_y = image.sum(axis=0) @ x / image.sum(), image.sum(axis=1) @ y / image.sum()
    found_px = sinogram @ np.arange(n_cols) / sinogram.sum(axis=1)
    expected_px = cor_px + mean_x * np.cos(theta_rad) - mean_y * np.sin(theta_rad)
    np.testing.assert_allclose(found_px, expected_px, atol=0.02)


def test_psnr_of_a_known_error():
    axis, truth = engine_axis(64), phantoms.sharp_image(64, engine_axis(64))
    error = np.where(np.indices(truth.shape).sum(axis=0) % 2, 0.1, -0.1) * np.ptp(truth)
    assert phantoms.psnr_db(truth + error, truth, axis) == pytest.approx(20)
    worse = 0.8 * truth - 0.3
    assert phantoms.psnr_db(worse, truth, axis) < 20
    assert phantoms.psnr_db(worse, truth, axis, fitted=True) > 200


@pytest.mark.parametrize(
    ("name", "least_db"),
    [
        ("tomopipe", 85),
        ("finufft", 75),
        ("algotom fbp", 50),
        ("algotom dfi", 45),
        ("scikit-image", 50),
    ],
)
def test_every_engine_gives_the_smooth_phantom(name, least_db):
    engine, n_cols = BY_NAME[name], 96
    assert engine.missing() == ""
    theta_rad, cor_px = cpu.angles_180(n_cols), cpu.cor_of(n_cols)
    run = engine.make(theta_rad, n_cols)
    sinogram = phantoms.smooth_sinogram(n_cols, theta_rad, cor_px)
    n_threads = numba.get_num_threads()
    image = run(np.stack([0 * sinogram, sinogram, 2 * sinogram]), cor_px)[1]
    assert numba.get_num_threads() == n_threads
    axis = engine.axis(n_cols)
    truth = phantoms.smooth_image(n_cols, axis)
    assert phantoms.psnr_db(image, truth, axis) > least_db
    # a wrong sense of the angles, or an axis half a pixel away, would be seen
    assert phantoms.psnr_db(image[:, ::-1], truth, axis) < 30
    half_off = phantoms.smooth_image(n_cols, (axis[0] + 0.5, axis[1]))
    assert phantoms.psnr_db(image, half_off, axis) < 44


def test_a_peer_that_fails_is_a_line_and_not_the_end():
    def make(theta_rad, n_cols):
        raise RuntimeError("no luck")

    absent = Engine("absent", "no_such_package_here", OURS.make)
    results = cpu.compare(64, 2, [Engine("bad", "numpy", make), absent], with_memory=False)
    assert [(r.engine.name, r.missing) for r in results] == [
        ("tomopipe", ""),
        ("bad", "failed: no luck"),
        ("absent", "not installed"),
    ]
    assert results[0].ratio == Interval(1, 1, 1)


def test_a_comparison_has_quality_time_and_memory():
    ours, peer = cpu.compare(128, 2, [BY_NAME["finufft"]])
    assert ours.sharp_db == pytest.approx(peer.sharp_db, abs=0.2)
    assert ours.smooth_db > 85
    for result in (ours, peer):
        assert result.slice_s > 0
        # sixteen slices, at least, and no more than a process could have grown by
        assert 16 * 128 * 128 * 4 <= result.peak_bytes + 2**20 < 2**28
    assert peer.ratio.low <= peer.ratio.median <= peer.ratio.high
