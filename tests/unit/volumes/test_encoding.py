import numpy as np
import pytest

from tomopipe.errors import TomopipeError
from tomopipe.volumes.encoding import Encoding, encoding_of, robust_range, with_statistics

VALUES = np.linspace(-0.002, 0.02, 5001, dtype=np.float32)


@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65535)])
def test_whole_numbers_are_within_half_a_step(dtype, largest):
    encoding = encoding_of(dtype, (-0.002, 0.02))
    stored = encoding.encode(VALUES)
    assert stored.dtype == dtype
    assert (stored[0], stored[-1]) == (0, largest)
    assert encoding.scale == pytest.approx(0.022 / largest)
    back = encoding.offset + encoding.scale * stored
    np.testing.assert_allclose(back, VALUES, atol=0.502 * 0.022 / largest)
    np.testing.assert_allclose(encoding.decode(stored), VALUES, atol=0.502 * 0.022 / largest)
    assert not encoding.beyond(VALUES).any()


def test_half_precision_keeps_small_values_and_limits_large_ones():
    encoding = encoding_of("float16")
    stored = encoding.encode(VALUES)
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored.astype(float), VALUES, rtol=2**-11, atol=3e-8)
    large = np.array([1e5, -1e5, 1], np.float32)
    assert encoding.encode(large).tolist() == [65504, -65504, 1]
    assert encoding.beyond(large).tolist() == [True, True, False]


def test_float32_is_not_touched():
    assert Encoding().encode(VALUES) is VALUES


@pytest.mark.parametrize(
    ("dtype", "value_range", "message"),
    [
        ("int16", None, "dtype: expected one of float32, float16, uint16, uint8"),
        ("uint8", None, "value_range: expected low < high"),
        ("uint8", (1, 1), "value_range: expected low < high"),
        ("uint16", (0, np.nan), "value_range: expected low < high"),
        ("uint16", (0, np.inf), "value_range: expected low < high"),
    ],
)
def test_what_is_no_encoding(dtype, value_range, message):
    with pytest.raises(ValueError, match=message):
        encoding_of(dtype, value_range)


def _noisy_slices(n=4, size=200):
    rng = np.random.default_rng(0)
    y, x = np.indices((size, size)) - (size - 1) / 2
    disk = 0.01 * (np.hypot(y, x) < 0.3 * size)
    return [(disk + rng.normal(0, 0.0005, disk.shape)).astype(np.float32) for _ in range(n)]


@pytest.mark.parametrize(("dtype", "margin"), [("uint16", 0.5), ("uint8", 0.05)])
def test_the_range_holds_object_and_noise_and_not_much_more(dtype, margin):
    slices = _noisy_slices()
    # quantiles at 3.1 sigma of the air and the disk, each a known share of the circle
    low, high = robust_range(slices, dtype)
    span = 0.01 + 2 * 3.1 * 0.0005
    assert low == pytest.approx(-3.1 * 0.0005 - margin * span, abs=0.03 * span)
    assert high == pytest.approx(0.01 + 3.1 * 0.0005 + margin * span, abs=0.03 * span)
    assert encoding_of(dtype, (low, high)).beyond(np.stack(slices)).mean() < 1e-3


def test_the_range_is_robust_and_looks_only_inside_the_circle():
    slices = _noisy_slices()
    expected = robust_range(slices, "uint8")
    for image in slices:
        image[0, :10] = 1e6  # a corner
        image[100, 100:103] = -50.0  # three hot pixels
    assert robust_range(slices, "uint8") == expected


def test_the_range_has_few_digits_and_does_not_change_with_the_last_bits():
    slices = _noisy_slices()
    nearly = [image * np.float32(1 + 3e-7) + np.float32(1e-9) for image in slices]
    found = robust_range(slices, "uint8")
    assert robust_range(nearly, "uint8") == found
    assert [float(f"{limit:.4g}") for limit in found] == [*found]


def test_large_slices_are_thinned_out():
    rng = np.random.default_rng(1)
    large = [rng.normal(0, 1, (1500, 1500)).astype(np.float32)]
    low, high = robust_range(large, "uint8")
    assert (low, high) == (pytest.approx(-3.29 * 1.1, abs=0.15), pytest.approx(3.62, abs=0.15))


def test_rare_values_alone_still_make_a_range():
    image = np.zeros((300, 300), np.float32)
    image[150, 150] = 2
    low, high = robust_range([image], "uint8")
    assert low == pytest.approx(-0.1, abs=0.02)
    assert high == pytest.approx(2.1, abs=0.02)


def test_a_single_value_has_no_range():
    with pytest.raises(TomopipeError, match="the single value 3"):
        robust_range([np.full((9, 9), 3, np.float32)] * 2, "uint8")


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "uint8"])
def test_a_gpu_encodes_to_the_same_bits(dtype, xp):
    values = np.random.default_rng(0).normal(0.01, 0.01, (3, 50, 60)).astype(np.float32)
    encoding = encoding_of(dtype, (-0.002, 0.02))
    there = with_statistics(xp.asarray(values), encoding, 1, encode=True)
    on_host_statistics = with_statistics(values, encoding, 1)
    assert there.slices.dtype == dtype
    np.testing.assert_array_equal(there.slices.get(), encoding.encode(values))
    assert encoding.encode(there.slices) is there.slices  # never twice
    for array, other in zip(there.arrays[1:], on_host_statistics.arrays[1:], strict=True):
        np.testing.assert_array_equal(array.get(), other)
    assert (dtype[0] == "u") == (on_host_statistics.clipped.sum() > 1000)


def test_a_value_that_is_not_finite_is_noted():
    values = np.ones((2, 3, 4), np.float32)
    values[1, 2, 3] = np.nan
    assert np.isnan(with_statistics(values, Encoding(), -1).extremes).any()
