"""The order of images by their names, kinds of these, and holes in their numbers."""

import numpy as np
import pytest

from tomopipe.scans.image_names import in_order, kinds_of, missing_counts, unclear_kinds


def names(numbers, head="img_", width=4):
    return [f"{head}{number:0{width}d}" for number in numbers]


@pytest.mark.parametrize("form", ["img_{}", "img_{:04d}_bin2", "2024-05-01_{:06d}"])
@pytest.mark.parametrize(("first", "step", "gone"), [(0, 1, [57, 58]), (9_950, 3, [60, 63, 90])])
def test_missing_numbers(form, first, step, gone):
    numbers = range(first, first + 181 * step, step)
    gone = [first + number for number in gone]
    assert missing_counts([form.format(n) for n in numbers if n not in gone]) == gone


def test_kinds_behind_the_number_follow_one_another():
    kinds = {"dar": 3, "img": 12, "ref": 4}
    by_kind = [f"s_01_{i:05d}_{kind}.tif" for kind, n in kinds.items() for i in range(n)]
    assert in_order(sorted(by_kind)) == by_kind  # by number first, as a listing has them


@pytest.mark.parametrize(
    "names",
    [
        # counted through: in the order in which they were taken
        [f"s_{i:05d}_{'dar' if i < 3 else 'img'}.tif" for i in range(30)],
        [f"p_{i}{tail}.tif" for i in range(40) for tail in [" (copy)"] * (i == 7) + [""]],
        [f"p_{i}.tif" for i in (1, 2, 9, 10, 11, 100)],
        [f"p_{i}.{ending}" for i in range(9) for ending in ("tif", "tiff")],
        [f"p_{i}_{i + j}.tif" for i in range(9) for j in range(3)],
        [f"p_{i // 2}_{chr(97 + i)}.tif" for i in range(20)],  # no kinds: each has its own
        [f"p_{i}deg.tif" for i in range(20)],
        ["a.tif", "a_1.tif", "flat_1.tif", "flats-2.tif"],
    ],
)
def test_other_names_are_in_the_order_of_their_numbers(names):
    assert in_order(names[::-1]) == names


EVEN = {
    "padded": names(range(1, 1000)),
    "uneven": names([1, 5, 9, 20]),
    "two segments": [*names(range(90), "a1_"), *names(range(90), "a2_")],
    "angles cut": names((np.arange(400) * 1.5).astype(int)),
    "angles with decimals": [f"img_{angle:.2f}" for angle in np.linspace(0, 180, 181)],
    "milliseconds": names(np.cumsum(np.random.default_rng(1).integers(990, 1010, 200))),
    "descending": names(range(100, 0, -1)),
    "long": names(range(10**20, 10**20 + 50)),
}


@pytest.mark.parametrize("stems", EVEN.values(), ids=EVEN)
def test_nothing_is_missing_counts(stems):
    assert missing_counts(stems) == []
    assert unclear_kinds(stems) == ""


def test_signs_and_decimals_are_no_kinds_and_their_holes_are_missing_counts():
    tilts = [f"tilt_{a}" for a in range(-20, 21) if a not in (-7, 3, 4)]
    printed = [f"p_{a / 4:g}" for a in range(40) if a != 6]
    assert {*kinds_of(tilts)} == {"tilt_#"}
    assert {*kinds_of(printed)} == {"p_#"}
    assert missing_counts(tilts) == [-7, 3, 4]
    assert missing_counts(printed) == [150]
