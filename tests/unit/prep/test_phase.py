"""Phase retrieval: a lens whose intensity was made by the forward model, and Algotom's filter."""

import numpy as np
import pytest

from tomopipe.config.preprocess import PhaseBlock
from tomopipe.prep import phase


def test_strength_is_the_published_expression():
    # 20 keV: 0.06199 nm; alpha = 100 mm * 0.06199 nm * 1000 / (4 pi) = 493.3 um^2
    alpha_px2 = phase.filter_strength(
        energy_kev=20, distance_mm=100, pixel_size_um=2, delta_beta=1000
    )
    assert alpha_px2 == pytest.approx(493.3 / 4, rel=1e-3)


def thickness(n=160, radius=36.0):
    """A lens of glass: round, with an edge that is not sharper than the pixels."""
    y, x = np.mgrid[:n, :n] - (n - 1) / 2
    return 60 * np.maximum(1 - (x**2 + y**2) / radius**2, 0) ** 2


def blurred_forward(contact, alpha_px2, generalised=False):
    """The transport-of-intensity image of a homogeneous object: what the filter undoes."""
    k = 2 * np.pi * np.fft.fftfreq(len(contact))
    square = 2 - 2 * np.cos(k) if generalised else k**2
    response = 1 + alpha_px2 * (square[:, None] + square)
    return np.fft.ifft2(np.fft.fft2(contact) * response).real


@pytest.mark.parametrize("generalised", [False, True])
@pytest.mark.parametrize("alpha_px2", [0.5, 4.0, 20.0])
def test_thickness_of_a_lens(alpha_px2, generalised):
    truth = 0.01 * thickness()
    image = blurred_forward(np.exp(-truth), alpha_px2, generalised).astype(np.float32)
    retrieved = phase.retrieve_phase(
        image[None], alpha_px2=alpha_px2, rows=(0, len(image)), generalised=generalised
    )[0]
    error = np.abs(-np.log(retrieved) - truth).max()
    assert error < 4e-3 * truth.max()
    assert np.abs(-np.log(image) - truth).max() > 5 * error  # without the filter


@pytest.mark.parametrize("alpha_px2", [0.01, 1.0, 30.0])
def test_kernel_keeps_the_mean_and_is_cut_where_little_is_left(alpha_px2):
    kernel = phase.cut_kernel(alpha_px2, False)
    assert kernel.sum() == pytest.approx(1)
    flat = np.full((1, 20, 20), 0.7, np.float32)
    assert np.allclose(phase.retrieve_phase(flat, alpha_px2=alpha_px2, rows=(5, 9)), 0.7, atol=1e-6)
    assert abs(kernel[0].sum() + kernel[-1].sum()) < 2 * phase.TAIL


@pytest.mark.parametrize("generalised", [False, True])
def test_an_unsharp_mask_is_that_of_nabu(generalised):
    """(1 + c) image - c (blurred image) of the filtered projection, by SciPy's Gaussian."""
    from scipy.ndimage import gaussian_filter

    image = np.random.default_rng(0).normal(0.7, 0.3, (1, 160, 160)).astype(np.float32)
    mask = phase.Mask(2.5, 1.7)
    options = {"alpha_px2": 4.0, "rows": (0, 160), "generalised": generalised}
    plain = phase.retrieve_phase(image, **options)[0].astype(float)
    expected = 3.5 * plain - 2.5 * gaussian_filter(plain, 1.7, mode="nearest")
    sharp = phase.retrieve_phase(image, **options, mask=mask)[0]
    inner = np.s_[10:-10, 10:-10]  # where neither repeats an edge
    assert np.abs(expected - plain)[inner].max() > 0.2
    assert np.abs(sharp - expected)[inner].max() < 2e-3
    assert sharp.mean() == pytest.approx(plain.mean(), rel=1e-3)


def test_rows_around_are_enough_for_the_mask():
    """A block of rows with its halo is as the same rows of the whole; with fewer it is not."""
    image = np.random.default_rng(0).normal(1, 0.1, (1, 120, 40)).astype(np.float32)
    block = PhaseBlock(method="paganin", unsharp_coeff=3.0, unsharp_sigma=4.0)
    mask, alpha_px2 = phase.mask_of(block), 1.0
    whole = phase.retrieve_phase(image, alpha_px2=alpha_px2, rows=(50, 60), mask=mask)
    first, last = phase.rows_of_phase((50, 60), block, alpha_px2)
    assert (first, last) == (50 - 8 - 16, 60 + 8 + 16)
    for fewer, is_same in ((0, True), (16, False)):
        part = image[:, first + fewer : last - fewer]
        rows = 50 - first - fewer, 60 - first - fewer
        found = phase.retrieve_phase(part, alpha_px2=alpha_px2, rows=rows, mask=mask)
        assert np.allclose(found, whole, atol=1e-5) == is_same
