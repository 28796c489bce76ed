"""Stripes: an object with stripes of known offset, and the published implementation of Algotom."""

import numpy as np
import pytest
import pywt
from algotom.prep import removal

from tomopipe.prep import stripes, wavelets
from tomopipe.prep.compiled import running_median

N_ANGLES, N_COLS = 301, 512


def clean_sinogram(n_angles=N_ANGLES, n_cols=N_COLS):
    """Two off-centre blobs that turn, with noise: nothing in it is a stripe."""
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


def ring_energy(sinogram, truth):
    """Spread of the columns' mean error: what makes rings."""
    return float(np.std((sinogram - truth).mean(axis=0)))


def assert_same(left, expected):
    """Equal but where a column has equal values: their order is nobody's."""
    difference = np.abs(left - expected)
    assert np.mean(difference > 1e-5) < 1e-3
    assert difference.max() < 0.02


@pytest.mark.parametrize(
    ("remove", "most"),
    [
        (stripes.remove_by_sorting, 0.12),
        (stripes.remove_by_combination, 0.55),
        (lambda s: stripes.remove_by_regularisation(s, alpha=0.05), 0.35),
        (wavelets.remove_by_wavelets, 0.35),
    ],
    ids=["sorting", "vo", "titarenko", "fourier-wavelet"],
)
def test_stripes_go_and_the_object_stays(remove, most):
    truth = clean_sinogram()
    striped = with_stripes(truth)
    before = striped.copy()
    left = remove(striped)
    assert left.dtype == np.float32
    assert ring_energy(left, truth) < most * ring_energy(striped, truth)
    assert np.sqrt(np.mean((remove(truth) - truth) ** 2)) < 0.04 * np.std(truth)
    assert np.array_equal(striped, before)


def test_dead_and_large_stripes_go_with_the_combination():
    truth = clean_sinogram()
    striped = truth.copy()
    striped[:, 100] = 0.7  # never changes
    striped[:, 160:172] += 0.3
    left = stripes.remove_by_combination(striped)
    assert ring_energy(left, truth) < 0.35 * ring_energy(striped, truth)
    assert ring_energy(left, truth) < 0.5 * ring_energy(stripes.remove_by_sorting(striped), truth)


@pytest.mark.parametrize("size_px", [5, 21])
def test_sorting_is_that_of_algotom(size_px):
    striped = with_stripes(clean_sinogram())
    expected = removal.remove_stripe_based_sorting(striped, size_px)
    assert_same(stripes.remove_by_sorting(striped, size_px=size_px), expected)


def test_combination_is_that_of_algotom():
    striped = with_stripes(clean_sinogram())
    striped[:, 100] = 0.7
    striped[:, 160:172] += 0.3
    expected = removal.remove_all_stripe(striped)
    assert_same(stripes.remove_by_combination(striped), expected)


def test_regularisation_solves_the_published_problem():
    """Minimum of |gradient(mean + c)|^2 + alpha |c|^2 by plain linear algebra, and Algotom."""
    striped = with_stripes(clean_sinogram())
    alpha = 0.01
    gradient = np.diff(np.eye(N_COLS), axis=0)
    rough = gradient.T @ gradient
    mean = striped.mean(axis=0, dtype=float)
    offset = np.linalg.solve(rough + alpha * np.eye(N_COLS), -rough @ mean)
    left = stripes.remove_by_regularisation(striped, alpha=alpha)
    assert np.allclose(left, striped + offset, atol=1e-6)


def test_regularisation_is_that_of_algotom():
    striped = with_stripes(clean_sinogram())
    left = stripes.remove_by_regularisation(striped, alpha=5e-4)
    peer = removal.remove_stripe_based_regularization(striped, 5e-4, apply_log=False, sort=False)
    # Algotom's formula falls short of the minimum by sqrt(alpha), 2 %, and more at the ends.
    inner = slice(150, -150)
    assert np.abs(left - peer)[:, inner].max() < 0.03 * np.abs(left - striped)[:, inner].max()


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
    left = wavelets.remove_by_wavelets(striped, sigma=1.5, level=3)
    assert np.allclose(left, expected, atol=1e-5)


def test_wavelets_are_those_of_algotom():
    striped = with_stripes(clean_sinogram(161))  # 101 details: its window is centred
    expected = removal.remove_stripe_based_wavelet_fft(striped, level=1, size=2)
    assert np.allclose(wavelets.remove_by_wavelets(striped, sigma=2, level=1), expected, atol=1e-5)


@pytest.mark.parametrize("size", [3, 8, 21])
def test_running_median_is_that_of_scipy(size):
    from scipy.ndimage import median_filter

    values = np.random.default_rng(1).normal(size=(7, 60)).astype(np.float32)
    values[2] = np.round(values[2])  # many equal values
    odd = size // 2 * 2 + 1
    assert np.array_equal(running_median(values, size), median_filter(values, (1, odd)))


@pytest.mark.parametrize("value", [0.0, -1.5, 3.25])
def test_constant_sinograms_stay(value):
    sinogram = np.full((40, 64), value, np.float32)
    for remove in (
        stripes.remove_by_sorting,
        stripes.remove_by_combination,
        stripes.remove_by_regularisation,
        wavelets.remove_by_wavelets,
    ):
        assert np.allclose(remove(sinogram), value, atol=1e-5)


def test_tiny_sinograms_pass():
    sinogram = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    for remove in (
        stripes.remove_by_sorting,
        stripes.remove_by_combination,
        wavelets.remove_by_wavelets,
    ):
        assert remove(sinogram).shape == (5, 7)
