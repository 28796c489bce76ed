"""The pictures of the page against a bead of known place and COR."""

import io
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from tests import pretend_cupy
from tests.pretend_cupy import XP
from tests.pretend_device import Watch, cupy_is
from tests.review_campaign import (
    BEAD_PX,
    GRID_PX,
    N_COLS,
    TRUE_COR_PX,
    make_campaign,
    write_pictures,
)
from tomopipe.cor.collected_rows import failed_rows, write_rows
from tomopipe.errors import TomopipeError
from tomopipe.recon import cuda, device
from tomopipe.recon.gpu import claimed_gpu
from tomopipe.review.scan_images import STRIP_STEPS, Cache, Pictures, grey16, grid_around


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_campaign(tmp_path_factory.mktemp("review"))


def pictures_of(folder, device="cpu"):
    return Pictures(folder, filter="ramp", device=device, half_acquisition=lambda scan: "no")


@pytest.fixture(scope="module")
def pictures(folder):
    return pictures_of(folder / "results/try_center")


def pixels(content):
    assert content.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def values(picture):
    """The values that the numbers of a picture stand for."""
    most = 2 ** (8 * picture.values.itemsize) - 1
    return picture.low + picture.values * (picture.high - picture.low) / most


def bead(image):
    """Mean around the voxel where the bead is, by the convention of the project."""
    x, y = round(BEAD_PX[0]) + N_COLS // 2, round(BEAD_PX[1]) + N_COLS // 2 - 1
    return image[y - 4 : y + 5, x - 4 : x + 5].mean()


def test_pages_are_those_of_the_stack_in_its_window(pictures):
    for number in (0, 3, 10):
        page = pictures.page("bone_001", number)
        assert (page.values == 5000 * number >> 8).all()
        assert page.usual == (page.low, page.high) == (-0.002, 0.012)


def test_a_thumbnail_is_the_page_nearest_to_the_cor(pictures):
    for cor_px, page in ((GRID_PX[3] + 0.4, 3), (GRID_PX[3] + 0.6, 4), (GRID_PX[-1] + 0.4, 10)):
        assert (pixels(pictures.thumbnail("bone_001", cor_px)) == 5000 * page >> 8).all()


@pytest.mark.parametrize(("cor_px", "has_stack"), [(600.0, True), (GRID_PX[5], False)])
def test_a_thumbnail_beyond_the_sweep_or_without_it_is_the_slice_at_its_cor(
    folder, pictures, cor_px, has_stack
):
    write_pictures(folder, "other_1", cor_px, radius_px=60.0)
    if not has_stack:
        (folder / "results/try_center/other_1/try.tif").unlink()
    image = pixels(pictures.thumbnail("other_1", cor_px))
    x, y = (round(len(image) * (0.5 + offset_px / N_COLS)) for offset_px in BEAD_PX)
    assert image[y - 2 : y + 3, x - 2 : x + 3].min() > image[20:60, 20:60].mean() + 50
    with pytest.raises(TomopipeError, match="no slice at 2000 px"):
        pictures.thumbnail("other_1", 2000.0)


def test_the_grid_is_the_sweep_or_as_many_steps_about_a_cor_off_it():
    columns = (0, N_COLS - 1)
    for cor_px in (None, GRID_PX[0] - 0.4, GRID_PX[4] + 0.3, GRID_PX[-1] + 0.5):
        assert grid_around(GRID_PX, cor_px, columns) is GRID_PX
    assert grid_around(GRID_PX, 600.3, columns) == [595.3 + step for step in range(11)]
    assert grid_around(GRID_PX, 2.0, columns) == [float(cor_px) for cor_px in range(8)]
    assert grid_around([500.0], 600.0, columns) == [600.0]
    # of a scan without COR of its own also if the sweep has it
    middle_px, inside_px = GRID_PX[len(GRID_PX) // 2], GRID_PX[1]
    assert grid_around(GRID_PX, middle_px, columns, is_centred=True) is GRID_PX
    centred = grid_around(GRID_PX, inside_px, columns, is_centred=True)
    assert centred[len(centred) // 2] == inside_px
    assert grid_around(GRID_PX, None, columns, is_centred=True) is GRID_PX


def test_a_slice_at_the_true_cor_shows_the_bead_and_begins_in_the_window_of_the_sweep(pictures):
    found = pictures.slice("bone_001", TRUE_COR_PX, 0)
    assert found.values.shape == (N_COLS, N_COLS)
    assert found.usual == (-0.002, 0.012)
    assert bead(values(found)) == pytest.approx(0.01, abs=5e-4)
    # the row twice as dense is brighter than the window, and not lost
    assert bead(values(pictures.slice("bone_001", TRUE_COR_PX, 1))) == pytest.approx(0.02, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("is_free", [True, False])
def test_a_gpu_is_locked_for_a_picture_and_left_to_jobs(
    folder, pictures, tmp_path, monkeypatch, caplog, is_free
):
    """The picture is that of the CPU to a thousandth of the bead, and nothing stays on the GPU."""
    device._report_that_all_are_held.cache_clear()

    def on_gpu(device):
        return pictures_of(pictures.folder, device).slice("bone_001", TRUE_COR_PX, 0)

    expected = values(pictures.slice("bone_001", TRUE_COR_PX, 0))
    with cupy_is(monkeypatch, XP), ExitStack() as job:
        watch = Watch(monkeypatch, tmp_path)
        if not is_free:
            job.enter_context(claimed_gpu(XP))
            for _ in range(2):  # the CPU computes, which is said once
                np.testing.assert_array_equal(values(on_gpu("auto")), expected)
            assert caplog.text.count("other jobs hold all GPUs") == 1
            assert watch.is_held == [True]  # of the check that a process makes once
        np.testing.assert_allclose(
            values(on_gpu("auto" if is_free else "cuda")), expected, atol=1e-5
        )
        assert watch.is_held == [True, True]
        assert watch.n_left == [0] * (1 if is_free else 3)
        n_angles = len(pictures.sinogram("bone_001", 0).values)
        one_slice = cuda.sweep_gpu_bytes(n_angles, N_COLS, 1)
        for free, n_made in ((one_slice, 3), (one_slice - 1, 3)) if is_free else ():
            monkeypatch.setitem(pretend_cupy.MEMORY, 0, pretend_cupy.Memory(free_bytes=free))
            np.testing.assert_allclose(values(on_gpu("auto")), expected, atol=1e-5)
            assert len(watch.is_held) == n_made  # where too little is free the CPU computes


def test_a_gpu_without_room_is_not_warmed_up(folder, monkeypatch, tmp_path):
    pictures = pictures_of(folder, "auto")
    with cupy_is(monkeypatch, XP):
        watch = Watch(monkeypatch, tmp_path)
        pictures.warm_up()
        assert watch.is_held == [True, True]
        monkeypatch.setitem(pretend_cupy.MEMORY, 0, pretend_cupy.Memory(free_bytes=10))
        pictures.warm_up()
    assert watch.is_held == [True, True]


def test_a_slice_differs_by_less_than_a_step_of_the_sweep(pictures):
    near, true, far = (
        values(pictures.slice("bone_001", TRUE_COR_PX + off_px, 0)) for off_px in (0.1, 0, 8)
    )
    assert np.abs(near - true).max() > 0
    assert bead(far) < bead(true) - 0.001


def test_a_strip_shows_one_piece_at_cors_that_double_outwards(pictures):
    place = (round(BEAD_PX[1]) + N_COLS // 2 - 1, round(BEAD_PX[0]) + N_COLS // 2)
    found = pictures.strip("bone_001", TRUE_COR_PX, 0, step_px=2.0, centre=place)
    offs_px = np.array(found.about["cor_px"]) - TRUE_COR_PX
    np.testing.assert_allclose(offs_px, 2.0 * np.sort(STRIP_STEPS), atol=1e-4)
    crops = np.split(values(found), len(STRIP_STEPS), axis=1)
    centre = [crop[44:53, 44:53].mean() for crop in crops]
    assert centre.index(max(centre)) == 3  # the bead is whole at the true COR alone
    top, left, bottom, right = found.about["box"]
    whole = values(pictures.slice("bone_001", TRUE_COR_PX, 0))[top:bottom, left:right]
    np.testing.assert_allclose(crops[3], whole, atol=1e-5)


def test_a_strip_finds_the_bead_by_itself_and_ends_at_the_detector(pictures):
    found = pictures.strip("bone_001", TRUE_COR_PX, 0, step_px=0.5, centre=None)
    top, left, bottom, right = found.about["box"]
    assert top < BEAD_PX[1] + N_COLS // 2 < bottom
    assert left < BEAD_PX[0] + N_COLS // 2 < right
    edge = pictures.strip("bone_001", N_COLS - 2.0, 0, step_px=1.0, centre=(9, 9)).about
    assert edge["cor_px"] == [N_COLS - 6, N_COLS - 4, N_COLS - 3, N_COLS - 2, N_COLS - 1]
    assert edge["box"][:2] == [0, 0]


def test_a_grain_of_gold_takes_no_steps_from_the_rest():
    rng = np.random.default_rng(0)
    image = rng.normal(1.0, 0.1, (300, 300)).astype(np.float32)
    image[7, 7] = 1e6
    found = grey16(image, None)
    assert (found.high - found.low) / 65535 < 1e-4
    np.testing.assert_allclose(values(found)[8:], image[8:], atol=1e-4)
    flat = grey16(np.full((2, 2), 3.0, np.float32), None)
    assert (flat.usual, values(flat).tolist()) == ((3.0, 4.0), [[3, 3], [3, 3]])


def test_the_overlay_is_grey_where_the_two_agree(pictures):
    true = pixels(pictures.overlay("bone_001", TRUE_COR_PX, 0))
    off = pixels(pictures.overlay("bone_001", TRUE_COR_PX + 4, 0))
    assert true.shape == (8, N_COLS, 3)
    colour, of_other = (np.abs(image[..., 0] - image[..., 1]).mean() for image in (true, off))
    assert colour < 0.1 * of_other


def test_the_difference_is_least_at_the_true_cor(pictures):
    left = {}
    for off_px in (-1.0, -0.2, 0.0, 0.2, 1.0):
        found = pictures.difference("bone_001", TRUE_COR_PX + off_px, 0)
        left[off_px] = np.abs(values(found)).mean()
    assert min(left, key=left.get) == 0.0
    assert left[0.0] < 0.4 * left[0.2]


def test_the_sinogram_has_the_bead_at_the_axis_where_it_crosses(pictures):
    x, y = BEAD_PX
    image = values(pictures.sinogram("bone_001", 0))
    theta_rad = np.linspace(0, np.pi, len(image), endpoint=False)
    crossing = np.argmin(np.abs(x * np.cos(theta_rad) - y * np.sin(theta_rad)))
    columns = np.arange(N_COLS)
    seen_px = (image[crossing] * columns).sum() / image[crossing].sum()
    assert seen_px == pytest.approx(TRUE_COR_PX, abs=4)  # between two projections


def test_a_scan_tried_again_is_read_again(folder, pictures):
    before = pictures.slice("wood_1", 510.0, 0)
    assert pictures.slice("wood_1", 510.0, 0) is before
    write_pictures(folder, "wood_1", 560.0)
    assert bead(values(pictures.slice("wood_1", 560.0, 0))) > 0.009
    assert pictures.slice("wood_1", 510.0, 0) is not before


def test_what_cannot_be_shown_is_said(folder, pictures):
    with pytest.raises(TomopipeError, match="no rows"):
        pictures.slice("bone_002", 512.0, 0)
    write_rows(failed_rows("constant frames"), folder / "results/try_center/bone_003/rows.h5")
    with pytest.raises(TomopipeError, match="constant frames"):
        pictures.slice("bone_003", 512.0, 0)
    place = folder / "results/try_center/failed_1"
    place.mkdir()
    (place / "try.json").write_text('{"failed": "no angles"}')
    write_rows(failed_rows("no angles"), place / "rows.h5")
    with pytest.raises(TomopipeError, match="failed_1: no angles"):
        pictures.thumbnail("failed_1", 511.0)


def test_large_results_are_kept_up_to_their_bytes():
    kept = Cache(9, most_bytes=1000)
    for key in range(3):
        kept.get(key, lambda: np.zeros(400, np.uint8))
    assert [kept.find(key) is None for key in range(3)] == [True, False, False]
    kept.get(9, lambda: np.zeros(4000, np.uint8))  # the last one is kept in any case
    assert kept.find(9) is not None
