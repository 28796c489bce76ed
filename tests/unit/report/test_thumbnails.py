"""Small pictures: the right pages of a sweep, the part that shows most, and readable values."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.report_campaign import write_json
from tests.review_campaign import BEAD_PX, N_COLS, write_pictures
from tomopipe.campaign.files import Files
from tomopipe.errors import TomopipeError
from tomopipe.report.thumbnails import (
    CROP_PX,
    MAX_BYTES,
    binned,
    encode,
    grey_window,
    informative_crop,
    informative_part,
    make_picture,
    read_pair,
    read_sweep,
    slices_around,
    to_grey,
)
from tomopipe.volumes.tiff import write_try_stack
from tomopipe.watch.watched_scans import Verdict, picture, write_page


def stack(folder, pages, grid_px, binning=1):
    write_try_stack(iter(pages), grid_px, folder / "try.tif", shape=pages[0].shape)
    write_json({"cor_px": grid_px, "binning": binning}, folder / "try.json")
    return folder / "try.tif"


def numbered(n, size=128):
    """Pages that hold their number, and a ramp so that there is a grey window."""
    ramp = np.linspace(0, 1000, size).astype(np.uint16)
    return [np.tile(ramp + 300 * number, (size, 1)) for number in range(n)]


@pytest.mark.parametrize(
    ("cor_px", "binning", "expected"),
    [
        (110.1, 1, (104.0, 108.0, 110.0, 112.0, 116.0)),
        (110.0, 2, (100.0, 106.0, 110.0, 114.0, 120.0)),  # wider apart where pixels are
        (100.4, 1, (100.0, 100.5, 102.5, 106.5)),  # the grid ends
    ],
)
def test_pages_lie_around_the_cor(tmp_path, cor_px, binning, expected):
    grid_px = [100 + 0.5 * number for number in range(41)]
    sweep = read_sweep(stack(tmp_path, numbered(41), grid_px, binning), cor_px)
    assert sweep.cor_px == expected
    assert sweep.cor_px[sweep.chosen] == pytest.approx(cor_px, abs=0.25)
    # each page is brighter than the one before it, and all are in the window of the chosen one
    levels = np.mean(sweep.images, axis=(1, 2))
    assert (np.diff(levels) >= 0).all()
    assert sweep.images[sweep.chosen].min() < 10
    assert sweep.images[sweep.chosen].max() > 245


@pytest.mark.slow
def test_a_strip_beyond_the_sweep_is_made_from_the_rows_about_the_cor(tmp_path):
    write_pictures(tmp_path, "far_1", 600.0)
    path = tmp_path / "results" / "try_center" / "far_1" / "try.tif"
    found = slices_around(path, 600.0, (-9, 0, 9), max_size_px=512)
    assert (found.cor_px, found.chosen) == ((582.0, 600.0, 618.0), 1)  # 9 px of half as many
    at_y, at_x = round(BEAD_PX[1] / 2) + 256, round(BEAD_PX[0] / 2) + 256
    seen = [image[at_y - 2 : at_y + 2, at_x - 2 : at_x + 2].mean() for image in found.images]
    assert seen[1] == pytest.approx(0.01, rel=0.05)
    assert max(seen[0], seen[2]) < 0.007
    sweep = read_sweep(path, 600.0)
    assert (len(sweep.images), sweep.cor_px[sweep.chosen]) == (5, 600.0)
    assert read_sweep(path, N_COLS + 5.0) is None  # off the detector


@pytest.mark.slow
def test_the_live_page_shows_the_slice_at_the_cor_it_names(tmp_path):
    write_pictures(tmp_path, "far_1", 600.0)
    files = Files(tmp_path / "results")
    files.live.parent.mkdir()
    assert picture(files, "far_1", 600.0)["picture_cor_px"] == 600.0
    assert picture(files, "far_1", 507.2)["picture_cor_px"] == 507.0
    shown = picture(files, "far_1", 512.0)
    assert shown["picture_cor_px"] == 512.0
    assert not picture(files, "far_1", None)["picture"]
    event = {"path": "far_1.h5", "at": 0.0, "has_verdict": True}
    write_page(files, "Beamtime", [event | vars(Verdict("far_1", "ok")) | shown])
    assert f'{shown["picture"]}" alt=""><small>at COR 512.00 px</small>' in files.live.read_text()
    near = Verdict("far_1", "ok", 512.2, best_cor_px=512.2)
    write_page(files, "Beamtime", [event | vars(near) | shown])
    assert "<small>at COR 512.00 px ≈\n512.20</small>" in files.live.read_text()


def test_a_failed_sweep_has_no_strip(tmp_path):
    write_json({"failed": "no signal"}, tmp_path / "try.json")
    assert read_sweep(tmp_path / "try.tif", 10.0) is None


def test_a_stack_that_does_not_fit_its_grid_is_refused(tmp_path):
    path = stack(tmp_path, numbered(5), [1.0, 2.0, 3.0, 4.0, 5.0])
    write_json({"cor_px": [1.0, 2.0, 3.0]}, tmp_path / "try.json")
    with pytest.raises(TomopipeError, match="5 slices for 3 CORs"):
        read_sweep(path, 2.0)


def test_the_part_with_most_contrast_is_shown():
    page = np.full((480, 480), 1000, np.uint16)
    page[250:290, 150:190] += np.uint16(9000) * (np.indices((40, 40)).sum(axis=0) % 2 == 0)
    page[:20, :20] = 60_000  # outside the circle nothing is reconstructed
    y, x = informative_part(page)
    assert (y.stop - y.start, x.stop - x.start) == (CROP_PX, CROP_PX)
    assert y.start <= 250 <= 290 <= y.stop
    assert x.start <= 150 <= 190 <= x.stop
    assert informative_part(np.zeros((40, 60), np.uint16)) == (slice(0, 40), slice(0, 60))


@pytest.mark.parametrize(("noise", "binning"), [(300, 1), (8000, 2), (20_000, 4), (50_000, 8)])
def test_a_noisy_slice_is_binned_until_structure_shows(tmp_path, noise, binning):
    rng = np.random.default_rng(0)
    y, x = np.indices((960, 960))
    disks = np.hypot(y % 96 - 48, x % 96 - 48) < 24
    page = 10_000.0 * disks + rng.normal(0, noise, disks.shape)
    part, found = informative_crop(page)
    assert found == binning
    assert part[0].stop - part[0].start == CROP_PX * binning
    crop, truth = binned(page[part], binning), binned(disks[part], binning)
    assert np.corrcoef(crop.ravel(), truth.ravel())[0, 1] > 0.5
    pages = [np.uint16(np.clip(30_000 + page, 0, 65_535))] * 41
    grid_px = [100 + float(number) for number in range(41)]
    sweep = read_sweep(stack(tmp_path, pages, grid_px), 120.0)
    assert sweep.images[0].shape == (CROP_PX, CROP_PX)
    steps = np.diff(sweep.cor_px)
    assert steps[len(steps) // 2] == 2 * binning  # finer ones are not seen when binned


def test_noise_alone_and_small_slices_are_binned_as_far_as_can_be_seen():
    noise = np.random.default_rng(0).normal(size=(960, 960))
    assert informative_crop(noise)[1] == 8
    assert informative_crop(noise[:100, :100]) == ((slice(0, 100), slice(0, 100)), 4)


def test_two_cors_show_one_crop_in_one_window(tmp_path):
    grid_px = [100 + 0.5 * number for number in range(41)]
    path = stack(tmp_path, numbered(41), grid_px)
    pair = read_pair(path, (110.1, 104.0))
    assert (pair.cor_px, pair.chosen) == ((110.0, 104.0), 0)
    assert pair.images[0].min() < 10
    assert pair.images[1].mean() < pair.images[0].mean()
    assert read_pair(path, (110.1, 110.2)).cor_px == (110.0,)  # the same slice
    assert read_pair(path, (110.1, 500.0)).cor_px == (110.0,)  # beyond the sweep, and no rows
    assert read_pair(path, (500.0, 110.1)) is None


def test_many_edges_show_more_than_one_and_than_noise():
    rng = np.random.default_rng(0)
    y, x = np.indices((960, 960))
    page = np.where(np.hypot(y - 300, x - 300) < 120, 9000.0, 1000.0)
    for at_y, at_x in rng.uniform(590, 660, (12, 2)):
        page[np.hypot(y - at_y, x - at_x) < 6] = 9000
    page[200:400, 600:800] += rng.normal(0, 4000, (200, 200))
    page = np.clip(page + rng.normal(0, 500, page.shape), 0, 65535).astype(np.uint16)
    y, x = informative_part(page)
    assert y.start <= 625 <= y.stop
    assert x.start <= 625 <= x.stop


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
    assert to_grey(np.arange(np.prod(shape), dtype=np.float32).reshape(shape)).shape == size


def test_noise_stays_below_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (200, 200)).astype(np.uint8)
    assert 1000 < len(encode(noise)) <= MAX_BYTES
    smooth = np.uint8(127 + 120 * np.sin(np.indices((200, 200)).sum(axis=0) / 20))
    assert len(encode(smooth)) <= MAX_BYTES


def test_a_picture_is_in_the_page_or_where_its_source_puts_it():
    plane = np.outer(np.ones(64), np.arange(64.0)).astype(np.float32)
    put = []
    beside = make_picture("mid_xz", plane, source=lambda *asked: put.append(asked) or "a.webp")
    assert (beside["plane"], beside["src"], put[0][0]) == ("mid_xz", "a.webp", "mid_xz")
    inline = make_picture("mid_xz", plane)
    data = base64.b64decode(inline["src"].removeprefix("data:image/webp;base64,"))
    assert data == put[0][1]
    image = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    assert image[:, -1].mean() - image[:, 0].mean() > 200  # grows to the right


def test_the_values_stated_beside_a_noisy_plane_are_those_of_its_picture():
    """Averaging leaves a fifth of the noise: so far do the values of black and white shrink."""
    plane = np.random.default_rng(5).normal(0, 1, (1000, 1000)).astype(np.float32)
    plane[:, 500:] += 0.5
    made = make_picture("mid_xy", plane, (200, 100_000))
    data = base64.b64decode(made["src"].partition("base64,")[2])
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    values = made["low"] + (made["high"] - made["low"]) * grey / 255
    halves = np.median(values[:, :90]), np.median(values[:, 110:])
    assert halves == pytest.approx((0.0, 0.5), abs=0.03)
