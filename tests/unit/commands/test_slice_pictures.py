"""Slices as PNG: the bar has its length, the window its greys, and files of others stay."""

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli import cli
from tomopipe.commands.conversion import find_volumes
from tomopipe.commands.slice_pictures import (
    Look,
    length_text,
    plan_pictures,
    round_length_um,
    write_picture,
)
from tomopipe.errors import TomopipeError
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.slow

SHAPE = (20, 300, 400)
SIZE_UM = 0.65


def write_campaign(folder, **about):
    """Of one scan, whose value is that of the ramp x, and in its last row twice that."""
    (folder / "raw").mkdir()
    (folder / "raw/a_1.h5").write_bytes(b"not read")
    (folder / "config.yaml").write_text(yaml.safe_dump({"campaign": {"scans": ["raw/*.h5"]}}))
    ramp = np.broadcast_to(np.arange(SHAPE[2], dtype=np.float32), SHAPE).copy()
    ramp[-1] *= 2
    attributes = {"units": "per_cm", **about}
    with new_volume(folder / "results/a_1_rec.h5", SHAPE, attributes=attributes) as put:
        put(0, ramp)
    return load_campaign(folder)


def pictures(campaign, *slices, **look):
    return plan_pictures(campaign, find_volumes(campaign), slices, Look(**look))


def read(picture):
    with Image.open(picture.target) as image:
        assert image.mode == "L"
        return np.asarray(image)


def bar_px(grey):
    """Columns of the longest white run in the lower tenth, on a dark picture."""
    runs = ["".join(row) for row in np.where(grey[-grey.shape[0] // 10 :] == 255, "#", " ")]
    return max(len(run) for row in runs for run in row.split())


def test_the_bar_is_as_long_as_it_says_and_the_greys_are_those_of_the_window(tmp_path):
    campaign = write_campaign(tmp_path, voxel_size_um=SIZE_UM)
    # 0.25 of 260 um: 50 um; all values are dark in this window
    (picture,) = pictures(campaign, value_range=(0, 1000))
    words = write_picture(picture)
    assert words == "0 to 1000 per cm, bar 50 µm"
    assert picture.target.name == "a_1_xy_10.png"
    grey = read(picture)
    assert grey.shape == SHAPE[1:]
    assert bar_px(grey) * SIZE_UM == pytest.approx(50, abs=SIZE_UM / 2)
    np.testing.assert_array_equal(grey[0], np.round(np.arange(400) * 255 / 1000 + 1e-9))
    (longer,) = pictures(campaign, "xy:19", value_range=(0, 1000), bar_um=130)
    write_picture(longer)
    grey = read(longer)
    assert grey[0, 399] == round(2 * 399 * 255 / 1000)  # of the last row
    assert bar_px(grey) * SIZE_UM == pytest.approx(130, abs=SIZE_UM / 2)
    (without,) = pictures(campaign, value_range=(0, 1000), bar_um=0)
    write_picture(without)
    assert read(without).max() < 255


def test_a_length_that_is_wider_than_its_bar_is_drawn_whole(tmp_path):
    campaign = write_campaign(tmp_path, voxel_size_um=SIZE_UM)
    (picture,) = pictures(campaign, value_range=(0, 1000), bar_um=5)
    write_picture(picture)
    white = np.flatnonzero((read(picture) == 255).any(axis=0))
    assert white[-1] < 0.98 * SHAPE[2]  # where the bar ends, a little before the edge
    assert np.ptp(white) > 1.5 * 5 / SIZE_UM


def test_percentiles_are_black_and_white(tmp_path):
    campaign = write_campaign(tmp_path, voxel_size_um=SIZE_UM)
    (picture,) = pictures(campaign, percentiles=(25, 75), bar_um=0)
    assert "99.75 to 299.2 per cm" in write_picture(picture)
    grey = read(picture)[0]
    assert (grey == 0).sum() == pytest.approx(100, abs=2)
    assert (grey == 255).sum() == pytest.approx(100, abs=2)


def test_voxels_that_are_not_square_are_drawn_in_proportion(tmp_path):
    campaign = write_campaign(tmp_path, voxel_size_um=2.0, voxel_height_um=5.0)
    xz, yz = pictures(campaign, "xz", "yz:399", bar_um=0)
    for picture in (xz, yz):
        write_picture(picture)
    assert read(xz).shape == (50, 400)  # 20 rows of 5 um, columns of 2 um
    assert read(yz).shape == (50, 300)


def test_without_a_pixel_size_there_is_no_bar_and_it_is_named(tmp_path):
    campaign = write_campaign(tmp_path)
    (picture,) = pictures(campaign, value_range=(0, 1000))
    assert "set input.pixel_size_um" in write_picture(picture)
    assert read(picture).max() < 255


@pytest.mark.parametrize(
    ("slices", "look", "words"),
    [
        (["zx"], {}, "--slice zx: expected xy, xz or yz"),
        (["xy:20"], {}, "from 0 to 19"),
        ([], {"value_range": (2, 1)}, "LOW < HIGH"),
        ([], {"percentiles": (-1, 50)}, "--percentiles"),
        ([], {"bar_um": -1}, "--bar"),
    ],
)
def test_what_cannot_be_drawn_is_named(tmp_path, slices, look, words):
    with pytest.raises(TomopipeError, match=words):
        pictures(write_campaign(tmp_path, voxel_size_um=1.0), *slices, **look)


def test_a_bar_wider_than_the_picture_is_refused(tmp_path):
    (picture,) = pictures(write_campaign(tmp_path, voxel_size_um=1.0), bar_um=390)
    with pytest.raises(TomopipeError, match="400 um wide"):
        write_picture(picture)
    assert not picture.target.exists()


def test_current_ones_stay_others_of_us_are_replaced_and_those_of_others_are_refused(tmp_path):
    write_campaign(tmp_path, voxel_size_um=SIZE_UM)
    path = tmp_path / "results/a_1_xz_150.png"

    def said(*words):
        done = CliRunner().invoke(cli, ["convert", "png", str(tmp_path), "--slice", "xz", *words])
        return done.output + str(done.exception or "")

    assert "would be written" in said("-n")
    assert not path.exists()
    assert "a_1_xz_150.png: 0 to" in said()
    assert "up to date" in said()
    assert "5 to 9" in said("--range", "5", "9")
    Image.new("L", (5, 5)).save(path)
    assert "Move it away first" in said()
    assert "PNG has 8 bits" in said("--dtype", "uint16")


@pytest.mark.parametrize(
    ("longest_um", "length_um", "text"),
    [
        (65, 50, "50 µm"), (1.0, 1, "1 µm"), (0.99, 0.5, "500 nm"), (0.021, 0.02, "20 nm"),
        (4999, 2000, "2 mm"), (10000.0, 10000, "10 mm"), (999, 500, "500 µm"),
    ],
)  # fmt: skip
def test_lengths_are_round(longest_um, length_um, text):
    assert round_length_um(longest_um) == length_um
    assert length_text(length_um) == text
