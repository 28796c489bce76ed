"""The order of images whose names hold signs, decimals, or angles: each gets its own angle."""

import numpy as np
import pytest
import tifffile

from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan, read_metadata
from tomopipe.scans.formats import BY_ANGLE
from tomopipe.scans.metadata import incomplete

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
# earlier versions took another order
TAKEN = {
    "signed": (named("tilt_{a:.0f}", TILTS), TILTS, evenly(-90, 90), True),
    "signed, listed": (named("tilt_{a:.0f}", TILTS), TILTS + JITTER, None, True),
    "plus": (named("tilt_{a:+05.1f}", TILTS), TILTS, evenly(-90, 90), True),
    "hyphen before digits": (named("tilt{a:.0f}", TILTS), TILTS, evenly(-90, 90), True),
    "signed, backwards": (named("t_{a:.0f}", TILTS[::-1]), TILTS[::-1], evenly(90, -90), True),
    "all negative": (named("tilt_{a:.0f}", DEGREES - 181), DEGREES - 181, None, True),
    "as printed": (named("p_{a:g}", QUARTERS), QUARTERS, evenly(0, 15), True),
    "negative decimals": (named("p_{a:g}", QUARTERS - 8), QUARTERS - 8, None, True),
    "the other sense": (named("p_{a:g}", QUARTERS), -QUARTERS, evenly(0, -15), True),
    "another zero": (named("p_{a:g}", QUARTERS), QUARTERS + 90, None, True),
    "backwards": (named("p_{a:.2f}", QUARTERS[::-1]), QUARTERS[::-1], evenly(15, 0), True),
    "golden, number": (named("Lego_{a:.4f}_{i:03d}", GOLDEN), GOLDEN, None, True),
    "golden, rounded": (named("Lego_{a:.0f}_{i:03d}", GOLDEN), GOLDEN, None, True),
    "golden, step": (named("L_{a:.4f}_{i}", GOLDEN), GOLDEN, {"step": 180 * (5**0.5 - 1) / 2}, 1),
    "golden, the other sense": (named("L_{a:.4f}_{i:03d}", GOLDEN), -GOLDEN, None, True),
    "golden, angle alone": (named("p_{a:.4f}", GOLDEN), GOLDEN, None, True),
    "number, angle": (named("img_{i:04d}_{a:.2f}deg", QUARTERS), QUARTERS, evenly(0, 15), False),
    "rounds": (named("p_{a:.1f}_{i}", DEGREES * 5 % 360), DEGREES * 5, {"step": 5}, True),
    "rounds, no number": (named("p_{a:.1f}", DEGREES * 5), DEGREES * 5, {"step": 5}, False),
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
    names, angles_deg, in_range, is_other = case
    path = write_scan(tmp_path / "scan", names, None if in_range else angles_deg)
    order, theta_deg = order_of(path, in_range)
    placed = np.empty(len(order))
    placed[order] = theta_deg
    assert (placed - angles_deg + 90) % 180 - 90 == pytest.approx(0, abs=0.03)
    if not in_range:
        assert placed == pytest.approx(angles_deg, abs=1e-5)
    found = read_metadata(path, flats="none", darks="none", options={"angles": in_range}).found
    assert found.endswith(BY_ANGLE) == is_other


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
        assert found.warnings[0] == (
            f"missing images, skipped with their angles: {len(gone)} (at {where} degrees)"
        )


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
    with pytest.raises(ScanError, match=r"the images hold other angles than input\.angles: "):
        order_of(path, angles)
    with pytest.raises(ScanError, match=where):
        order_of(path, angles)
    counted = {"angles": angles, "frames": [f"{len(names)} projections"]}
    with open_scan(path, flats="none", darks="none", options=counted) as scan:
        assert scan.n_angles == len(names)
