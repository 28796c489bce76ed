import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from tomopipe.recon import compiled, portable
from tomopipe.recon.fbp import reconstruct, sweep
from tomopipe.recon.plan import FILTERS, filter_response, image_positions, make_plan
from tomopipe.recon.rows import Rows

# (x, y, radius, value): pixels from the axis voxel; asymmetric on purpose
DISKS = [(0.0, 0.0, 0.36, 1.0), (0.12, -0.16, 0.05, 0.5), (-0.2, 0.08, 0.03, -0.7)]


def even_angles(n_angles, last=np.pi):
    return np.linspace(0, last, n_angles, endpoint=False)


def project(n_cols, theta_rad, cor_px, disks=DISKS):
    """Project disks (in units of n_cols) exactly at pixel centres, pixel-averaged."""
    fine = np.linspace(-0.5, 0.5, 9)
    column = np.arange(n_cols)[None, :, None] + fine
    sinogram = np.zeros((len(theta_rad), n_cols))
    for x, y, radius, value in np.array(disks) * [n_cols, n_cols, n_cols, 1]:
        centre = cor_px + x * np.cos(theta_rad) - y * np.sin(theta_rad)
        distance = column - centre[:, None, None]
        sinogram += value * 2 * np.sqrt(np.clip(radius**2 - distance**2, 0, None)).mean(-1)
    return sinogram.astype(np.float32)


def distance_px(n_cols, x, y):
    columns, rows = image_positions(n_cols)
    return np.hypot(columns[None, :] - x * n_cols, rows[:, None] - y * n_cols)


def slice_of(sinogram, theta_rad, cor_px, **options):
    plan = make_plan(theta_rad, sinogram.shape[1], **options)
    return reconstruct(sinogram[None], plan, cor_px)[0]


def centroid_px(image, x, y, radius):
    """Where a disk on a flat background lies, pixels from the axis voxel."""
    n_cols = len(image)
    distance = distance_px(n_cols, x, y)
    ring = (distance > 1.6 * radius * n_cols) & (distance < 2.2 * radius * n_cols)
    weight = np.where(distance < 1.6 * radius * n_cols, image - np.median(image[ring]), 0)
    columns, rows = image_positions(n_cols)
    return (weight.sum(0) @ columns) / weight.sum(), (weight.sum(1) @ rows) / weight.sum()


GEOMETRIES = {
    "even": (128, even_angles(192), 71.3),
    "odd": (127, even_angles(191), 60.8),
    "not 2^k": (150, even_angles(225), 74.62),
    "descending": (128, even_angles(192)[::-1], 70.3),
    "ends included": (128, np.linspace(0, np.pi, 193), 64.4),
    "random order": (128, np.random.default_rng(1).permutation(even_angles(192)), 60.2),
    "shifted start": (128, even_angles(192) - 12.3, 62.2),
    "360 degrees": (128, even_angles(384, 2 * np.pi), 63.5),
    "far off-centre": (128, even_angles(384, 2 * np.pi), 92.3),
    "uneven": (128, np.cumsum(np.tile([0.6, 1.4], 120)) * np.pi / 240, 65.7),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_disks_lie_where_they_should_with_the_right_values(name):
    n_cols, theta_rad, cor_px = GEOMETRIES[name]
    image = slice_of(project(n_cols, theta_rad, cor_px), theta_rad, cor_px)
    for x, y, radius, _ in DISKS[1:]:
        found = centroid_px(image, x, y, radius)
        np.testing.assert_allclose(found, (x * n_cols, y * n_cols), atol=0.02)
    flat = (distance_px(n_cols, 0, 0) < 0.8 * 0.36 * n_cols) & np.logical_and.reduce(
        [distance_px(n_cols, x, y) > 1.8 * radius * n_cols for x, y, radius, _ in DISKS[1:]]
    )
    assert image[flat].mean() == pytest.approx(1, abs=0.005)
    outside = distance_px(n_cols, 0, 0) > 0.4 * n_cols  # the corners too: nothing wraps around
    assert abs(image[outside]).max() < 0.06


def peak_px(image, start_px, width_px):
    """Climb to the maximum of the image smoothed by a Gaussian, pixels from the axis voxel."""
    columns, rows = image_positions(len(image))
    centre_px = np.array(start_px, dtype=float)
    for _ in range(200):
        distance2 = (columns - centre_px[0]) ** 2 + ((rows - centre_px[1]) ** 2)[:, None]
        weight = image * np.exp(-distance2 / (2 * width_px**2))
        centre_px = np.array([weight.sum(0) @ columns, weight.sum(1) @ rows]) / weight.sum()
    return centre_px


@pytest.mark.parametrize("last_deg", [170, 150, 120, 90])
@pytest.mark.parametrize(("n_cols", "cor_px"), [(128, 66.4), (127, 60.8)])
def test_less_than_half_a_turn_keeps_position(n_cols, cor_px, last_deg):
    # What angles are missing blurs a disk and draws streaks, both symmetric about its centre.
    theta_rad = even_angles(192, np.deg2rad(last_deg))
    for x, y, radius in [(0.12, -0.16, 0.05), (-0.2, 0.08, 0.03)]:
        image = slice_of(project(n_cols, theta_rad, cor_px, [(x, y, radius, 1)]), theta_rad, cor_px)
        true_px = np.array([x, y]) * n_cols
        found_px = peak_px(image, true_px + np.array([1.3, -0.8]), 0.7 * radius * n_cols)
        np.testing.assert_allclose(found_px, true_px, atol=0.02)


def beyond(n, n_cols, edge_slope_per_px):
    """Shares of an edge value: a disk's line integrals, a cosine, or all of it."""
    if edge_slope_per_px is None:
        return np.ones(n)
    if edge_slope_per_px == 0:
        return np.cos(np.pi / 2 * (np.arange(n) + 1) / (n + 1))
    edge_px = n_cols / 2
    radius2 = edge_px**2 + edge_px / edge_slope_per_px
    at_px = edge_px + 1 + np.arange(n)
    return np.sqrt(np.clip((radius2 - at_px**2) / (radius2 - edge_px**2), 0, None))


@pytest.mark.parametrize("edge_slopes_per_px", [None, (0.0, 0.0), (0.0, 0.04), (0.06, 0.01)])
@pytest.mark.parametrize("n_cols", [32, 33])
def test_equals_direct_summation(n_cols, edge_slopes_per_px):
    theta_rad, cor_px = even_angles(41), 13.37
    sinogram = np.random.default_rng(0).normal(size=(41, n_cols)).astype(np.float32)
    plan = make_plan(theta_rad, n_cols, filter="hann", edge_slopes_per_px=edge_slopes_per_px)
    n_padded = plan.n_padded
    n_right = (n_padded - n_cols) // 2
    n_left = n_padded - n_cols - n_right
    left, right = (
        beyond(n, n_cols, edge_slopes_per_px and edge_slopes_per_px[side])
        for side, n in enumerate((n_left, n_right))
    )
    padded = np.concatenate(
        [sinogram, sinogram[:, -1:] * right, sinogram[:, :1] * left[::-1]], axis=1, dtype=np.float64
    )
    k = np.arange(n_padded // 2 + 1)
    twice = np.where((k == 0) | (k == n_padded // 2), 1, 2)
    spectra = np.fft.rfft(padded) * filter_response("hann", n_padded) * twice / n_padded
    columns, rows = image_positions(n_cols)
    expected = np.zeros((n_cols, n_cols))
    for theta, spectrum in zip(theta_rad, spectra, strict=True):
        position = cor_px + columns[None, :] * np.cos(theta) - rows[:, None] * np.sin(theta)
        phase = np.exp(2j * np.pi * position[..., None] * k / n_padded)
        expected += np.pi / 41 * (phase @ spectrum).real
    found = reconstruct(sinogram[None], plan, cor_px)[0]
    error = (found - expected) / np.ptp(expected)
    # white noise is the hardest input there is, and the kernel is worst in the last row
    assert np.sqrt((error**2).mean()) < 1.5e-3
    assert abs(error).max() < 0.01


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("radius", [0.2, 0.45])
def test_every_filter_keeps_the_mean(name, radius):
    n_cols, theta_rad, cor_px = 128, even_angles(192), 64.8
    sinogram = project(n_cols, theta_rad, cor_px, [(0, 0, radius, 0.37)])
    image = slice_of(sinogram, theta_rad, cor_px, filter=name)
    assert image[distance_px(n_cols, 0, 0) < 0.8 * radius * n_cols].mean() == pytest.approx(
        0.37, rel=0.005
    )


def test_butterworth_cuts_at_half_of_nyquist():
    window = filter_response("butterworth", 64) / filter_response("ramp", 64)
    assert window[[8, 16, 24]] == pytest.approx([16 / 17, 1 / 2, 16 / 97])


def test_slices_go_where_they_are_wanted():
    rows = np.random.default_rng(9).normal(size=(3, 20, 24)).astype(np.float32)
    plan = make_plan(even_angles(20), 24)
    out = np.full((3, 24, 24), np.nan, np.float32)
    assert reconstruct(rows, plan, 11.5, out=out) is out
    np.testing.assert_array_equal(out, reconstruct(rows, plan, 11.5))
    for wrong in (out[:2], out.astype(np.float64), out.transpose(0, 2, 1)):
        with pytest.raises(ValueError, match="out"):
            reconstruct(rows, plan, 11.5, out=wrong)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_pixels_stay_in_their_slice(bad):
    theta_rad = even_angles(60)
    rows = np.stack([project(48, theta_rad, 23.5)] * 3)
    rows[1, 5, 7] = bad
    images = reconstruct(rows, make_plan(theta_rad, 48), 23.5)
    zeroed = rows[0].copy()
    zeroed[5, 7] = 0
    np.testing.assert_array_equal(images[0], images[2])
    np.testing.assert_allclose(images[1], slice_of(zeroed, theta_rad, 23.5), atol=1e-5)


@pytest.fixture
def angles_in_chunks(monkeypatch):
    """Add a few projections at a time."""
    monkeypatch.setattr(compiled, "angles_at_once", lambda *_: 7)


THETA_360 = even_angles(384, 2 * np.pi)


@pytest.mark.parametrize("theta_rad", [even_angles(60), THETA_360[::6]])
def test_same_bytes_whatever_the_threads_and_of_rows_made_as_needed(theta_rad, angles_in_chunks):
    """Over 360 degrees, too, with an axis off the middle; more slices than a batch has."""
    sinograms = np.random.default_rng(3).normal(size=(6, len(theta_rad), 48)).astype(np.float32)
    made = Rows(sinograms.shape, lambda angles: sinograms[:, angles].transpose(1, 0, 2).copy())
    at_once, again, as_needed = (
        reconstruct(given, make_plan(theta_rad, 48, batch_size=4), 20.6, threads=threads)
        for given, threads in ((sinograms, 1), (sinograms, 3), (made, 2))
    )
    np.testing.assert_array_equal(again, at_once)
    np.testing.assert_array_equal(as_needed, at_once)
    swept, once_more = (
        sweep(sinograms[0], make_plan(theta_rad, 48), np.linspace(15, 25, 19), threads=threads)
        for threads in (1, 3)
    )
    np.testing.assert_array_equal(once_more, swept)


GAP = THETA_360[(np.deg2rad(200) > THETA_360) | (np.deg2rad(220) < THETA_360)]


def test_opposing_projections_replace_those_in_a_gap():
    """An axis 28 px off the middle: the disk reaches beyond the near edge."""
    image = slice_of(project(128, GAP, 92.3), GAP, 92.3)
    whole = slice_of(project(128, THETA_360, 92.3), THETA_360, 92.3)
    covered = distance_px(128, 0, 0) < 0.8 * 0.36 * 128
    assert image[covered].mean() == pytest.approx(whole[covered].mean(), rel=0.03)
    # an object that no edge cuts loses nothing: each of its lines is seen
    small = [(0.0, 0.0, 0.2, 1.0), (0.1, -0.12, 0.03, 0.5)]
    image, whole = (slice_of(project(128, t, 92.3, small), t, 92.3) for t in (GAP, THETA_360))
    np.testing.assert_allclose(image, whole, atol=0.08)  # edges: other pixels
    assert image.mean() == pytest.approx(whole.mean(), rel=1e-3)


@pytest.mark.parametrize("last_deg", [370, 450, 540, 720, 900])
@pytest.mark.parametrize("sign", [1, -1])
def test_more_than_a_rotation_weighs_both_sides_alike(last_deg, sign):
    """The slices of one rotation, to 0.2 % of the disk, also where one side is seen more often."""
    theta_rad, turn = (sign * np.deg2rad(np.arange(n)) for n in (last_deg, 360))
    small = [(0.0, 0.0, 0.25, 1.0), (0.1, -0.12, 0.03, 0.5)]
    image, whole = (slice_of(project(128, t, 83.5, small), t, 83.5) for t in (theta_rad, turn))
    smooth, expected = (uniform_filter(a, 5) for a in (image, whole))
    np.testing.assert_allclose(smooth, expected, atol=0.002)


@pytest.mark.parametrize(
    "parts",
    [
        [(0, 90, 0.25), (90, 180, 1)],
        [(0, 85, 1), (85, 95, 0.05), (95, 180, 1)],
        [(0, 150, 0.5), (150, 180, 1.5)],
        [(0, 270, 0.5), (270, 360, 2)],
    ],
    ids=str,
)
def test_a_part_with_larger_steps_weighs_as_much(parts):
    """The slices of even steps, to 1.5 % of the disk; 9 to 37 % where steps count as gaps."""
    theta_rad = np.deg2rad(np.concatenate([np.arange(*part) for part in parts]))
    even_rad = even_angles(720, np.deg2rad(parts[-1][1]))
    small = [(0.0, 0.0, 0.2, 1.0), (0.1, -0.12, 0.08, 0.5)]
    cor_px = 92.3 if parts[-1][1] == 360 else 66.4
    image, even = (
        slice_of(project(128, t, cor_px, small), t, cor_px) for t in (theta_rad, even_rad)
    )
    smooth, expected = (uniform_filter(a, 9) for a in (image, even))
    covered = distance_px(128, 0, 0) < 0.3 * 128
    assert np.abs(smooth - expected)[covered].max() < 0.015


@pytest.mark.parametrize("theta_rad", [even_angles(70), GAP[::5]], ids=["180 degrees", "gap"])
def test_plain_lines_give_the_same_images(theta_rad):
    rows = np.random.default_rng(4).normal(size=(3, len(theta_rad), 51)).astype(np.float32)
    plan = make_plan(theta_rad, 51)
    cor_px = np.array([20.0, 26.3, 30.7])
    expected = np.empty((3, 51, 51), np.float32)
    portable.reconstruct_batch(rows, plan, cor_px, expected)
    np.testing.assert_allclose(
        reconstruct(rows, plan, cor_px), expected, atol=1e-5 * np.ptp(expected)
    )


@pytest.mark.parametrize("n_angles", [1, 2])
@pytest.mark.parametrize("n_cols", [1, 2, 7])
def test_smallest_scans(n_angles, n_cols):
    image = slice_of(np.ones((n_angles, n_cols), np.float32), even_angles(n_angles), 0.0)
    assert image.shape == (n_cols, n_cols)
    assert np.isfinite(image).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_plan([], 8), "n_angles"),
        (lambda: make_plan([0, np.nan], 8), "finite"),
        (lambda: make_plan([0], 0), "n_cols"),
        (lambda: make_plan([0], 8, batch_size=3), "batch_size"),
        (lambda: make_plan([0], 8, filter="hanning"), "hann"),
        (lambda: reconstruct(np.ones((1, 2, 8), "f4"), make_plan([0], 8), 4), "sinograms"),
        (lambda: reconstruct(np.ones((1, 1, 8), "f4"), make_plan([0], 8), np.nan), "cor_px"),
        (lambda: sweep(np.ones((2, 8), np.float32), make_plan([0.0], 8), [4]), "sinogram"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("last_rad", [np.pi, 2 * np.pi], ids=["180 degrees", "360 degrees"])
def test_the_images_of_a_sweep_are_those_of_the_full_reconstruction(last_rad):
    theta_rad = even_angles(96, last_rad)
    sinogram = project(64, theta_rad, 30.4)
    plan = make_plan(theta_rad, 64)
    cor_px = np.linspace(20, 40, 21)
    images = sweep(sinogram, plan, cor_px)
    assert images.shape == (21, 64, 64)
    expected = reconstruct(np.stack([sinogram] * 21), plan, cor_px)
    np.testing.assert_allclose(images, expected, atol=5e-5 * np.ptp(expected))
