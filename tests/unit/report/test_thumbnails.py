"""Pictures of the mid planes: right side up, readable whatever the values, small."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tomopipe.report.strips import grey_window
from tomopipe.report.thumbnails import (
    MAX_BYTES,
    encode,
    make_picture,
    to_grey,
)


def test_grey_window_is_robust_to_hot_voxels():
    plane = np.linspace(0.0, 1.0, 10_000).reshape(100, 100)
    plane[0, :20] = 1e6
    plane[1, 0] = np.nan
    low, high = grey_window(plane)
    assert low == pytest.approx(0.007, abs=0.003)
    assert high == pytest.approx(0.997, abs=0.005)


def test_one_bright_inclusion_does_not_darken_the_sample():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-100:100, -100:100]
    plane = rng.normal(0, 0.02, (200, 200))
    plane[np.hypot(y, x) < 70] += 1.0  # the sample
    low, high = grey_window(plane)
    plane[np.hypot(y - 20, x) < 12] = 9.0  # 1.1 % of the plane
    assert grey_window(plane) == pytest.approx((low, high), abs=0.2)


@pytest.mark.parametrize("value", [0.0, -5.0, np.nan, np.inf])
def test_a_constant_plane_has_a_window(value):
    low, high = grey_window(np.full((4, 4), value))
    assert high > low
    assert to_grey(np.full((4, 4), value, np.float32)).shape == (4, 4)


def test_picture_keeps_orientation_and_averages():
    plane = np.zeros((400, 800), np.float32)
    plane[:200, :400] = 1.0  # the corner of row 0, column 0
    plane[200:, 400:] = (np.indices((200, 400)).sum(axis=0) % 2) * 1.0  # checkerboard: mean 0.5
    grey = to_grey(plane)
    assert grey.shape == (100, 200)
    assert (grey[:50, :100] == 255).all()
    assert (grey[:50, 100:] == 0).all()
    assert np.ptp(grey[50:, 100:]) == 0
    assert grey[75, 150] == pytest.approx(127.5, abs=1)


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 2048), (1, 200)), ((1, 1), (1, 1)), ((3, 5), (3, 5))]
)
def test_one_row_and_tiny_planes(shape, size):
    plane = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    assert to_grey(plane).shape == size


def test_noise_stays_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
    assert 1000 < len(encode(noise)) <= MAX_BYTES
    smooth = np.uint8(127 + 120 * np.sin(np.indices((200, 200)).sum(axis=0) / 20))
    assert len(encode(smooth)) <= MAX_BYTES


def test_a_picture_is_in_the_page_or_where_its_source_puts_it():
    plane = np.outer(np.ones(64), np.arange(64.0)).astype(np.float32)
    put = []
    beside = make_picture("mid_xz", plane, source=lambda *asked: put.append(asked) or "a.webp")
    assert (beside.plane, beside.src, put[0][0]) == ("mid_xz", "a.webp", "mid_xz")
    inline = make_picture("mid_xz", plane)
    data = base64.b64decode(inline.src.removeprefix("data:image/webp;base64,"))
    assert data == put[0][1]
    image = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    assert image[:, -1].mean() - image[:, 0].mean() > 200  # grows to the right


def test_a_plane_that_is_none_is_refused():
    with pytest.raises(ValueError, match="2 dimensions"):
        make_picture("mid_xy", np.zeros((2, 2, 2)))
