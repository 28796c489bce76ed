"""Holes in the numbers of images, and kinds of images, by their names."""

import numpy as np
import pytest

from tomopipe.scans.image_names import copies_in, find_gaps, in_order, told_apart


def names(numbers, head="img_", width=4):
    return [f"{head}{number:0{width}d}" for number in numbers]


def without(n, gone, first=0, step=1):
    return [number for number in range(first, first + n * step, step) if number not in gone]


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("first", [0, 1, 9_950])
@pytest.mark.parametrize(("step", "gone"), [(1, [57, 58, 100]), (3, [60, 63, 90])])
def test_holes_are_found_and_placed(step, gone, first, width):
    kept = without(181, {first + number for number in gone}, first, step)
    gaps = find_gaps(names(kept, width=width))
    assert gaps.n_missing == 3
    assert gaps.positions.tolist() == [(number - first) // step for number in kept]
    a, b, c = (first + number for number in gone)
    assert gaps.missing == f"images {a} to {b}, {c}"


def test_each_kind_of_image_has_numbers_of_its_own():
    stems = names(range(10), "dar_") + names(without(50, {7})) + names(range(3, 9), "ref_")
    gaps = find_gaps(stems)
    assert (gaps.n_missing, gaps.missing) == (1, "image img_7")
    assert gaps.positions.tolist() == [n for n in range(66) if n != 17]


def test_images_counted_with_others_are_not_missing():
    stems = names(without(100, {50, 51, 52}))
    assert find_gaps(stems, [{50, 51, 52}]) is None
    gaps = find_gaps(stems, [{50, 51}, set(range(100))])
    assert gaps.n_missing == 1
    assert gaps.positions[50] == 51
    assert find_gaps(stems, [{49, 50, 51, 52}]).n_missing == 3  # numbers of their own
    assert find_gaps(sorted(stems) + names([50, 51, 52], "ref_")) is None


def test_kinds_behind_the_number_follow_one_another():
    kinds = {"dar": 3, "img": 12, "ref": 4}
    by_kind = [f"s_01_{i:05d}_{kind}.tif" for kind, n in kinds.items() for i in range(n)]
    assert in_order(sorted(by_kind)) == by_kind  # by number first, as a listing has them
    stems = [name.removesuffix(".tif") for name in by_kind]
    assert told_apart(stems, "s_01") == "<scan>_#_dar 3, <scan>_#_img 12, <scan>_#_ref 4"


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


HEALTHY = {
    "padded": names(range(1, 1000)),
    "bare": names(range(1000), width=1),
    "steps of 5": names(range(0, 900, 5)),
    "no number": ["a", "b", "c", "d", "e"],
    "few": names([1, 5, 90]),
    "uneven": names([1, 5, 9, 20]),
    "two segments": [*names(range(90), "a1_"), *names(range(90), "a2_")],
    "rounded angles": names(np.round(np.arange(400) * 1.01).astype(int)),
    "angles cut": names((np.arange(400) * 1.5).astype(int)),
    "angles with decimals": [f"img_{angle:.2f}" for angle in np.linspace(0, 180, 181)],
    "count and angle": [f"img_{i:04d}_{angle:.3f}" for i, angle in enumerate(np.arange(0, 180, 1))],
    "seconds": [f"t_{14 + s // 3600:02d}{s // 60 % 60:02d}{s % 60:02d}" for s in range(100)],
    "hours": [f"t_{14 + s // 3600:02d}{s // 60 % 60:02d}{s % 60:02d}" for s in range(0, 9000, 2)],
    "lags": [f"t_2024_1423{s:02d}" for s in range(40)] + [f"t_2024_1424{s:02d}" for s in range(40)],
    "unix": names([1_700_000_000 + s + (s > 50) for s in range(100)]),
    "milliseconds": names(np.cumsum(np.random.default_rng(1).integers(990, 1010, 200))),
    "descending": names(range(100, 0, -1)),
    "long": names(range(10**20, 10**20 + 50)),
}


@pytest.mark.parametrize("stems", HEALTHY.values(), ids=HEALTHY)
def test_healthy_images_have_no_holes(stems):
    assert find_gaps(stems) is None


def test_signs_and_decimals_are_no_kinds_and_their_holes_are_found():
    tilts = [f"tilt_{a}" for a in range(-20, 21) if a not in (-7, 3, 4)]
    assert told_apart(tilts) == ""
    gaps = find_gaps(tilts)
    assert gaps.missing == "images -7, 3 to 4"
    assert gaps.positions.tolist() == [n for n in range(41) if n not in (13, 23, 24)]
    printed = [f"p_{a / 4:g}" for a in range(40) if a != 6]
    assert told_apart(printed) == ""
    assert find_gaps(printed).missing == "image 1.50"
    assert copies_in([*printed, "p_0.5 (copy)"]) == [("p_0.5 (copy)", "p_0.5")]


def test_kinds_are_the_same_for_scans_alike():
    for scan in ("p05_rock_01", "p05_rock_02"):
        stems = [f"{scan}_{kind}_{number:05d}" for kind in ("dar", "img") for number in range(3)]
        assert told_apart(stems, scan) == "<scan>_dar_ 3, <scan>_img_ 3"
    assert told_apart([*names(range(3), "s7_a_"), "dark"]) == "s#_a_ 3, dark 1"
    assert told_apart([*names(range(3), "s7_"), *names(range(2), "s8_")]) == "s7_ 3, s8_ 2"
    assert told_apart([f"img_{i}_{i + 5}" for i in range(20)], "img_1") == ""
    assert told_apart(names(range(20), "scan_"), "scan_1") == ""
