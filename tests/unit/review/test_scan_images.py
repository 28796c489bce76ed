"""The pictures of the page against a bead of known place and COR."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.review_campaign import (
    BEAD_PX,
    GRID_PX,
    N_COLS,
    TRUE_COR_PX,
    bead_sinogram,
    make_campaign,
    write_pictures,
)
from tomopipe.cor.rows_file import failed_rows, write_rows
from tomopipe.errors import TomopipeError
from tomopipe.review.scan_images import Kept, Pictures, grey, grid_around, mirror


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_campaign(tmp_path_factory.mktemp("review"))


@pytest.fixture(scope="module")
def pictures(folder):
    return Pictures(folder / "results/try_center", filter="ramp", device="cpu")


def pixels(content):
    assert content.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(content))).astype(int)


def bead(image):
    """Mean around the voxel where the bead is, by the convention of the project."""
    x, y = round(BEAD_PX[0]) + N_COLS // 2, round(BEAD_PX[1]) + N_COLS // 2 - 1
    return image[y - 4 : y + 5, x - 4 : x + 5].mean()


def test_pages_are_those_of_the_stack_in_its_window(pictures):
    for at in (0, 3, 10):
        page = pixels(pictures.page("bone_001", at))
        assert page.shape == (64, 64)
        assert (page == 5000 * at >> 8).all()
    with pytest.raises(TomopipeError, match="from 0 to 10; got 11"):
        pictures.page("bone_001", 11)


def test_pages_of_a_stack_that_was_removed_come_from_the_rows(tmp_path):
    write_pictures(tmp_path, "bone_001", TRUE_COR_PX)
    made = Pictures(tmp_path / "results/try_center", filter="ramp", device="cpu")
    (tmp_path / "results/try_center/bone_001/try.tif").unlink()
    full = pixels(made.slice("bone_001", GRID_PX[5], 0))
    page = pixels(made.page("bone_001", 5))
    assert page.shape == (64, 64)  # as those of the stack
    assert np.abs(page - full.reshape(64, 16, 64, 16).mean((1, 3))).max() <= 1
    with pytest.raises(TomopipeError, match="from 0 to 10; got 11"):
        made.page("bone_001", 11)


def test_a_page_off_the_sweep_is_made_from_the_rows(tmp_path):
    write_pictures(tmp_path, "bone_001", 600.0)  # where the sweep does not go
    made = Pictures(tmp_path / "results/try_center", filter="ramp", device="cpu")
    page = pixels(made.page_at("bone_001", 600.0))
    assert page.shape == (64, 64)
    full = pixels(made.slice("bone_001", 600.0, 0))
    assert np.abs(page - full.reshape(64, 16, 64, 16).mean((1, 3))).max() <= 1
    assert abs(bead(full) - 255 * 0.012 / 0.014) < 12


def test_the_grid_is_the_sweep_or_as_many_steps_about_a_cor_off_it():
    columns = (0, N_COLS - 1)
    for cor_px in (None, GRID_PX[0] - 0.4, GRID_PX[4] + 0.3, GRID_PX[-1] + 0.5):
        assert grid_around(GRID_PX, cor_px, columns) is GRID_PX
    assert grid_around(GRID_PX, 600.3, columns) == [595.3 + at for at in range(11)]
    assert grid_around(GRID_PX, 2.0, columns) == [float(at) for at in range(8)]
    assert grid_around([500.0], 600.0, columns) == [600.0]


def test_a_slice_at_the_true_cor_shows_the_bead_in_the_window_of_the_sweep(pictures):
    image = pixels(pictures.slice("bone_001", TRUE_COR_PX, 0))
    assert image.shape == (N_COLS, N_COLS)
    # value 0.01 in a window from -0.002 to 0.012
    assert abs(bead(image) - 255 * 0.012 / 0.014) < 12
    assert bead(pixels(pictures.slice("bone_001", TRUE_COR_PX, 1))) == 255  # the row twice as dense


def test_a_slice_differs_by_less_than_a_step_of_the_sweep(pictures):
    near = pixels(pictures.slice("bone_001", TRUE_COR_PX + 0.1, 0))
    true = pixels(pictures.slice("bone_001", TRUE_COR_PX, 0))
    far = pixels(pictures.slice("bone_001", TRUE_COR_PX + 8, 0))
    assert np.abs(near - true).max() > 0
    assert bead(far) < bead(near) - 20


def test_the_mirrored_projection_falls_on_the_first_at_the_true_cor():
    theta_rad = np.array([0.3, 0.3 + np.pi])
    first, second = bead_sinogram(theta_rad, TRUE_COR_PX)
    gap = {
        cor_px: float(np.abs(mirror(second[None], cor_px)[0] - first).mean())
        for cor_px in np.arange(510.65, 512.7, 0.25).round(2)
    }
    assert min(gap, key=gap.get) == TRUE_COR_PX
    assert gap[TRUE_COR_PX] < 0.1 * gap[510.65]


def test_the_overlay_is_grey_where_the_two_agree(pictures):
    true = pixels(pictures.overlay("bone_001", TRUE_COR_PX, 0))
    off = pixels(pictures.overlay("bone_001", TRUE_COR_PX + 4, 0))
    assert true.shape == (8, N_COLS, 3)
    assert (
        np.abs(true[..., 0] - true[..., 1]).mean() < 0.1 * np.abs(off[..., 0] - off[..., 1]).mean()
    )
    with pytest.raises(TomopipeError, match="1 opposed pairs are kept; got 1"):
        pictures.overlay("bone_001", TRUE_COR_PX, 1)


def test_a_column_comes_to_twice_the_cor_less_itself():
    row = np.zeros((1, 9), np.float32)
    row[0, 2] = 1
    assert mirror(row, 4.0)[0].argmax() == 6
    np.testing.assert_allclose(mirror(row, 4.25)[0, 6:8], [0.5, 0.5])
    assert mirror(np.ones((2, 1), np.float32), 0.0).shape == (2, 1)


def test_a_scan_tried_again_is_read_again(folder, pictures):
    before = pictures.slice("wood_1", 510.0, 0)
    assert pictures.slice("wood_1", 510.0, 0) == before
    write_pictures(folder, "wood_1", 560.0)
    assert bead(pixels(pictures.slice("wood_1", 560.0, 0))) > 180
    assert pictures.slice("wood_1", 510.0, 0) != before


def test_what_cannot_be_shown_is_said(folder, pictures):
    with pytest.raises(TomopipeError, match="2 rows are kept; got number 2"):
        pictures.slice("bone_001", 512.0, 2)
    with pytest.raises(TomopipeError, match="no rows"):
        pictures.slice("bone_002", 512.0, 0)
    write_rows(failed_rows("constant frames"), folder / "results/try_center/bone_003/rows.h5")
    with pytest.raises(TomopipeError, match="constant frames"):
        pictures.slice("bone_003", 512.0, 0)


def test_the_window_maps_to_8_bits():
    assert grey(np.array([-9.0, 1, 2, 3, 9]), 1, 3).tolist() == [0, 0, 128, 255, 255]
    assert grey(np.array([1.0, 2.0]), 1, 1).tolist() == [0, 0]


def test_only_the_last_few_results_are_kept():
    kept, made = Kept(2), []

    def make(key):
        return kept.get(key, lambda: made.append(key) or key)

    for key in "abacab":
        assert make(key) == key
    assert made == ["a", "b", "c", "b"]
