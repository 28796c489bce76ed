"""The order of images by their names: signs, decimals, kinds, holes; each gets its own angle."""

import numpy as np
import pytest
import tifffile

from tests.exchange_files import read_metadata
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.image_names import in_order, kinds_of, missing_counts, unclear_kinds
from tomopipe.scans.metadata import incomplete

BY_ANGLE = "images ordered by the angles in their names"
GOLDEN = np.arange(60) * 180 * (np.sqrt(5) - 1) / 2 % 180
TILTS = np.linspace(-90, 90, 61)
QUARTERS = np.arange(0, 15.1, 0.25)
WRAPPED = np.arange(350, 710, 6.0)
SHIFTED = [*QUARTERS[:30], *(QUARTERS[30:-1] + 0.13), 15]
DEGREES = np.arange(181.0)
JITTER = np.random.default_rng(3).uniform(-0.02, 0.02, 61)


def write_scan(path, names, angles_deg=None):
    """Write images in the order in which they were taken, which is their value."""
    path.mkdir()
    for number, name in enumerate(names):
        tifffile.imwrite(path / f"{name}.tif", np.full((2, 3), number, "u2"))
    if angles_deg is not None:
        np.savetxt(path / "angles.txt", angles_deg, fmt="%.5f")
    return path


def order_of(path, angles=None):
    known = {} if angles is None else {"angles": angles}
    with open_scan(path, flats="none", darks="none", options=known) as scan:
        return scan.read_rows(0, 1)[:, 0, 0].tolist(), np.rad2deg(scan.theta_rad)


def named(form, angles_deg):
    return [form.format(i=i, a=a + 0.0, s=i // 60) for i, a in enumerate(angles_deg)]


def evenly(start, stop):
    return {"start": start, "stop": stop}


# names in the order in which the images were taken, angles, range (None: a list), and whether
# the numbers in the names are the angles
TAKEN = {
    "signed": (named("tilt_{a:.0f}", TILTS), TILTS, evenly(-90, 90), True),
    "signed, listed": (named("tilt_{a:.0f}", TILTS), TILTS + JITTER, None, True),
    "plus": (named("tilt_{a:+05.1f}", TILTS), TILTS, evenly(-90, 90), True),
    "hyphen before digits": (named("tilt{a:.0f}", TILTS), TILTS, evenly(-90, 90), True),
    "signed, backwards": (named("t_{a:.0f}", TILTS[::-1]), TILTS[::-1], evenly(90, -90), True),
    "all negative": (named("tilt_{a:.0f}", DEGREES - 181), DEGREES - 181, None, True),
    "as printed": (named("p_{a:g}", QUARTERS), QUARTERS, evenly(0, 15), True),
    "negative decimals": (named("p_{a:g}", QUARTERS - 8), QUARTERS - 8, None, True),
    "the other sense": (named("p_{a:g}", QUARTERS), -QUARTERS, evenly(0, -15), False),
    "another zero": (named("p_{a:g}", QUARTERS), QUARTERS + 90, None, False),
    "backwards": (named("p_{a:.2f}", QUARTERS[::-1]), QUARTERS[::-1], evenly(15, 0), True),
    "golden, number": (named("Lego_{a:.4f}_{i:03d}", GOLDEN), GOLDEN, None, True),
    "golden, rounded": (named("Lego_{a:.0f}_{i:03d}", GOLDEN), GOLDEN, None, True),
    "golden, step": (named("L_{a:.4f}_{i}", GOLDEN), GOLDEN, {"step": 180 * (5**0.5 - 1) / 2}, 1),
    "golden, the other sense": (named("L_{a:.4f}_{i:03d}", GOLDEN), -GOLDEN, None, True),
    "golden, angle alone": (named("p_{a:.4f}", GOLDEN), GOLDEN, None, True),
    "number, angle": (named("img_{i:04d}_{a:.2f}deg", QUARTERS), QUARTERS, evenly(0, 15), True),
    "rounds": (named("p_{a:.1f}_{i}", DEGREES * 5 % 360), DEGREES * 5, {"step": 5}, True),
    "rounds, no number": (named("p_{a:.1f}", DEGREES * 5), DEGREES * 5, {"step": 5}, True),
    "rounds begin elsewhere": (named("p_{a:.1f}_{i}", WRAPPED % 360), WRAPPED, None, True),
    "one round, no number": (named("p_{a:.1f}", WRAPPED % 360), WRAPPED, None, True),
    "decimal comma": ([f"p_{a:g}".replace(".", ",") for a in QUARTERS], QUARTERS, None, True),
    "beam current": (named("c{a:.2f}_{i:03d}", 200 - QUARTERS / 7), QUARTERS, None, True),
    "hyphen": (named("rock-{i:03d}", DEGREES), DEGREES, evenly(0, 180), False),
    "hyphen, signs": (named("rock-{i:03d}", TILTS), TILTS, evenly(-90, 90), False),
    "date": (named("2024-05-01_{i:04d}", DEGREES), DEGREES, evenly(0, 180), False),
    "time": (named("2024-05-01_12.{s}.45_{i:04d}", DEGREES), DEGREES, None, False),
    "exposure": (named("scan_0.5s_{i}", DEGREES), DEGREES, evenly(0, 180), False),
    "energy": (named("12.4keV_16bit_v1.10_{i}", TILTS), TILTS, evenly(-90, 90), False),
    "count behind a point": (named("scan_3.{i}", DEGREES), DEGREES, evenly(0, 180), False),
    "count, listed backwards": (named("img_{i:03d}", DEGREES), 180 - DEGREES, None, False),
    "count from 1": ([f"i{n}" for n in range(1, 182)], DEGREES - 90, None, False),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN.values(), ids=TAKEN)
def test_each_image_has_its_own_angle(tmp_path, case):
    names, angles_deg, in_range, by_angle = case
    path = write_scan(tmp_path / "scan", names, None if in_range else angles_deg)
    order, theta_deg = order_of(path, in_range)
    placed = np.empty(len(order))
    placed[order] = theta_deg
    assert (placed - angles_deg + 90) % 180 - 90 == pytest.approx(0, abs=0.03)
    if not in_range:
        assert placed == pytest.approx(angles_deg, abs=1e-5)
    found = read_metadata(path, flats="none", darks="none", options={"angles": in_range}).found
    assert found.endswith(BY_ANGLE) == by_angle


@pytest.mark.parametrize("angles", [evenly(-90, 90), {"start": -90, "step": 3}, "a list"], ids=str)
@pytest.mark.parametrize("gone", [[20], [40, 41], [60], [0]], ids=str)
@pytest.mark.parametrize("form", ["tilt_{a:.0f}", "tilt_{a:.1f}_0.5s"])
def test_missing_images_take_the_angles_in_their_names_along(tmp_path, angles, gone, form):
    names, listed = named(form, TILTS), angles == "a list"
    path = write_scan(tmp_path / "scan", names, TILTS if listed else None)
    for number in gone:
        (path / f"{names[number]}.tif").unlink()
    order, theta_deg = order_of(path, None if listed else angles)
    assert order == [n for n in range(61) if n not in gone]
    assert theta_deg == pytest.approx(TILTS[order])
    found = read_metadata(
        path, flats="none", darks="none", options={"angles": None if listed else angles}
    )
    assert incomplete(found) == ""
    if gone != [60] or angles != {"start": -90, "step": 3}:  # nothing tells where a step ends
        where = ", ".join(f"{TILTS[n]:.6g}" for n in gone)
        said = f"missing images, skipped with their angles: {len(gone)} (at {where} degrees)"
        assert found.warnings[0] == said


@pytest.mark.parametrize(
    ("names", "angles", "where"),
    [
        (named("p_{a:.4f}", GOLDEN), evenly(0, 180), "would be at"),
        (named("L_{a:.4f}_{i:03d}", GOLDEN), evenly(0, 180), "would be at"),
        (named("p_{a:g}", SHIFTED), evenly(0, 15), "p_8.13 would be at 8 degrees; correct"),
    ],
)
def test_names_and_angles_that_contradict_are_refused(tmp_path, names, angles, where):
    path = write_scan(tmp_path / "scan", names)
    message = rf"the images hold other angles than input\.angles: .*{where}"
    with pytest.raises(ScanError, match=message):
        order_of(path, angles)
    counted = {"angles": angles, "frames": [f"{len(names)} projections"]}
    with open_scan(path, flats="none", darks="none", options=counted) as scan:
        assert scan.n_angles == len(names)


def counted(numbers, head="img_", width=4):
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
    "padded": counted(range(1, 1000)),
    "uneven": counted([1, 5, 9, 20]),
    "two segments": [*counted(range(90), "a1_"), *counted(range(90), "a2_")],
    "angles cut": counted((np.arange(400) * 1.5).astype(int)),
    "angles with decimals": [f"img_{angle:.2f}" for angle in np.linspace(0, 180, 181)],
    "milliseconds": counted(np.cumsum(np.random.default_rng(1).integers(990, 1010, 200))),
    "descending": counted(range(100, 0, -1)),
    "long": counted(range(10**20, 10**20 + 50)),
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
