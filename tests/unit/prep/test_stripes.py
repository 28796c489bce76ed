"""Stripes: an object with stripes of known offset, and the published implementation of Algotom."""

from pkgutil import resolve_name

import numpy as np
import pytest
import pywt

from tomopipe.config import PreprocessBlock
from tomopipe.config.stripe_filters import STRIPE_FILTERS, StripesBlock
from tomopipe.prep import stripes
from tomopipe.prep.correct import Corrections
from tomopipe.prep.flats import Beam
from tomopipe.prep.host_kernels import running_median
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.simulate.phantom import Ellipsoid, Phantom, project

N_ANGLES, N_COLS = 301, 512


def rod(x_px, y_px, radius_px, mu_per_px):
    """A cylinder parallel to the axis, higher than any detector."""
    return Ellipsoid(x_px, y_px, 0, radius_px, radius_px, 1e5, 0.0, mu_per_px)


def clean_sinogram(n_angles=N_ANGLES, n_cols=N_COLS):
    """Two off-centre blobs that rotate, with noise: nothing in it is a stripe."""
    random = np.random.default_rng(3)
    x = np.linspace(-1, 1, n_cols)
    theta = np.linspace(0, np.pi, n_angles)[:, None]
    blobs = np.exp(-(((x - 0.3 * np.cos(theta)) / 0.3) ** 2))
    blobs = blobs + 0.5 * np.exp(-(((x + 0.5 * np.sin(theta)) / 0.08) ** 2))
    return (blobs + random.normal(0, 0.01, blobs.shape)).astype(np.float32)


def with_stripes(sinogram, columns=(60, 160, 161, 300, 401), offset=0.2):
    striped = sinogram.copy()
    striped[:, list(columns)] += offset
    return striped


def assert_same(left, expected):
    """Equal but where a column has equal values: their order is nobody's."""
    difference = np.abs(left - expected)
    assert np.mean(difference > 1e-5) < 1e-3
    assert difference.max() < 0.02


@pytest.mark.parametrize("n_cols", [192, 400])
@pytest.mark.parametrize("method", STRIPE_FILTERS)
@pytest.mark.parametrize("centre_px", [(0.0, 0.0), (6.0, -4.0)], ids=["centred", "off"])
def test_defaults_leave_a_sound_object_its_values(method, n_cols, centre_px):
    """A cylinder with four rods and no ring: the mean to 1 %, the rods' contrast to 2 %."""
    radius_px, mu = 0.4 * n_cols, 1.5 / n_cols
    body = rod(*centre_px, radius_px, mu)
    rods = [
        rod(far * n_cols * np.cos(phi), far * n_cols * np.sin(phi), wide * n_cols, gain * mu)
        for far, phi, wide, gain in [(0.2, 0.3, 0.05, 1), (0.22, 2.4, 0.03, 2),
                                     (0.18, 4.2, 0.06, -1), (0.3, 5.4, 0.04, 0.5)]
    ]  # fmt: skip
    theta_rad, cor_px = np.linspace(0, np.pi, 300, endpoint=False), n_cols / 2
    lines = project(Phantom("rods", (body, *rods)), theta_rad, cor_px, 1, n_cols)
    counts = 1e5 * np.exp(-lines.astype(float))
    lines = -np.log(np.random.default_rng(0).poisson(counts) / 1e5).astype(np.float32)
    recipe = PreprocessBlock(stripes={"method": method})
    nothing = Beam(*np.zeros((2, 1, n_cols)), np.zeros((0, 1, n_cols)), np.zeros((300, 0)))
    Corrections(recipe, 1, nothing, ()).remove_stripes(lines.swapaxes(0, 1))
    image = reconstruct(lines.swapaxes(0, 1), make_plan(theta_rad, n_cols), cor_px)[0]
    y, x = np.indices(image.shape) - np.array([n_cols // 2 - 1, n_cols // 2])[:, None, None]

    def distance_px(part):
        return np.hypot(x - part.x_px, y - part.y_px)

    matrix = distance_px(body) < radius_px - 3
    for part in rods:
        matrix &= distance_px(part) > part.semi_x_px + 3
    assert image[matrix].mean() == pytest.approx(mu, rel=0.01)
    for part in rods:
        inside = image[distance_px(part) < part.semi_x_px - 2].mean()
        assert inside - image[matrix].mean() == pytest.approx(part.mu_per_px, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [5, 21])
def test_sorting_and_combination_are_those_of_algotom(size_px):
    from algotom.prep import removal

    striped = with_stripes(clean_sinogram())
    expected = removal.remove_stripe_based_sorting(striped, size_px)
    assert_same(stripes.remove_by_sorting(striped, StripesBlock(size_px=size_px)), expected)
    striped[:, 100] = 0.7
    striped[:, 160:172] += 0.3
    expected = removal.remove_all_stripe(striped, snr=3.0, la_size=51, sm_size=size_px)
    options = StripesBlock(large_px=51, size_px=size_px)
    assert_same(stripes.remove_by_combination(striped, options), expected)


def test_wavelets_are_the_published_filter():
    """Full decomposition, damping and reconstruction, as the paper has them."""
    striped = with_stripes(clean_sinogram())
    pad = min(150, N_ANGLES // 10)
    padded = np.pad(striped.astype(float), ((pad, pad), (0, 0)), mode="mean")
    padded = np.pad(padded, ((0, 0), (pad, pad)), mode="edge")
    levels = pywt.wavedec2(padded, "db9", level=3)
    for i, (across, along, both) in enumerate(levels[1:], 1):
        k = np.fft.fftfreq(len(along), 1 / len(along))
        damp = 1 - np.exp(-(k**2) / (2 * 1.5**2))
        damped = np.fft.ifft(np.fft.fft(along, axis=0) * damp[:, None], axis=0).real
        levels[i] = (across, damped, both)
    expected = pywt.waverec2(levels, "db9")[pad : pad + N_ANGLES, pad : pad + N_COLS]
    left = stripes.remove_by_wavelets(striped, StripesBlock(sigma=1.5, level=3))
    assert np.allclose(left, expected, atol=1e-5)


def test_a_double_flat_field_removes_thin_stripes_and_spares_what_is_the_objects():
    """Stripes of 1 and 2 px and 5 % go; grains of 0.3, a wall of 6 px about the axis stay."""
    clean = clean_sinogram()
    wall = np.zeros(N_COLS, np.float32)
    wall[200:206] = wall[306:312] = 0.08  # the same at all angles
    wall[250] = 0.3  # thin, but no gain is wrong by so much
    clean += wall
    striped = with_stripes(clean, offset=0.05)
    left = stripes.remove_by_double_flat(striped, StripesBlock())
    # to a sixth of them in each column; at each angle the same is taken off
    assert np.abs(left - clean).max() < 0.008
    without_limit = stripes.remove_by_double_flat(striped, StripesBlock(limit=1.0))
    assert (clean - without_limit)[:, 250].mean() == pytest.approx(0.3, abs=0.01)


def test_a_double_flat_field_spares_thin_walls_about_the_axis_beside_stripes():
    """Walls of four nested tubes, 1.2 to 2 px, which lost up to 0.12; stripes of 0.05 go."""
    off = np.abs(np.arange(N_COLS) - 254.7)

    def chord(radius_px):
        return 2 * np.sqrt(np.maximum(0, radius_px**2 - off**2))

    walls = ((40, 1.5), (75, 2), (120, 1.2), (190, 2))
    profile = sum(0.006 * (chord(outer) - chord(outer - px)) for outer, px in walls)
    noise = np.random.default_rng(4).normal(0, 0.01, (N_ANGLES, N_COLS))
    clean = (profile + noise).astype(np.float32)
    for sinogram in (clean, with_stripes(clean, offset=0.05)):
        change = stripes.remove_by_double_flat(sinogram, StripesBlock()) - clean
        assert np.abs(change.mean(axis=0)).max() < 0.005


@pytest.mark.parametrize("size", [3, 8, 21])
def test_running_median_is_that_of_scipy(size):
    from scipy.ndimage import median_filter

    values = np.random.default_rng(1).normal(size=(7, 60)).astype(np.float32)
    values[2] = np.round(values[2])  # many equal values
    odd = size // 2 * 2 + 1
    assert np.array_equal(running_median(values, size), median_filter(values, (1, odd)))


@pytest.mark.parametrize("entry", STRIPE_FILTERS.values(), ids=STRIPE_FILTERS)
def test_constant_and_tiny_sinograms_pass(entry):
    remove = resolve_name(entry.function)
    for value in (0.0, -1.5, 3.25):
        sinogram = np.full((40, 64), value, np.float32)
        assert np.allclose(remove(sinogram, StripesBlock()), value, atol=1e-5)
    tiny = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    assert remove(tiny, StripesBlock()).shape == (5, 7)
