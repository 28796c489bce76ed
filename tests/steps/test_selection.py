"""Blocked angles, bad frames, every n-th projection, and orders other than ascending."""

import json

import h5py
import numpy as np
import pytest

from tests.exchange_files import read_metadata
from tests.phantoms import write_scan
from tests.step_calls import inventory, predict_in, try_in, volume_of
from tomopipe.cor_methods import METHODS
from tomopipe.errors import ScanError
from tomopipe.recon.angular_sampling import angle_weights
from tomopipe.recon.fbp import reconstruct
from tomopipe.recon.plan import make_plan
from tomopipe.scans.exchange import open_scan

COR_PX = 61.3
SIZE = {"n_cols": 128, "n_rows": 3, "cor_px": COR_PX}
GOLDEN_DEG = 180 * (np.sqrt(5) - 1) / 2


def left_out(folder, n_angles, theta_deg, **options):
    """Return which of as many projections are not in use."""
    with h5py.File(folder / "a.h5", "w") as file:
        file["exchange/data"] = np.ones((n_angles, 1, 1))
        if theta_deg is not None:
            file["exchange/theta"] = theta_deg
    metadata = read_metadata(folder / "a.h5", flats="none", darks="none", options=options)
    return sorted({*range(n_angles)} - {*metadata.chosen.tolist()})


def test_ranges_are_degrees_in_whatever_turn_both_ends_included(tmp_path):
    theta = np.arange(0, 730, 10.0)
    assert left_out(tmp_path, 73, theta, skip_angles=[[350, 370]]) == [0, 1, 35, 36, 37, 71, 72]
    assert left_out(tmp_path, 73, -theta, skip_angles=[[-20, -10]]) == [1, 2, 37, 38]
    single = np.float32(0.1) * np.arange(10, dtype="f4")  # 0.3 and 0.6 miss themselves
    assert left_out(tmp_path, 10, single, skip_angles=[[0.3, 0.6]]) == [3, 4, 5, 6]
    assert left_out(tmp_path, 5, None, skip_angles=[[40, 90]]) == []  # nobody knows them


def test_numbers_ranges_of_numbers_and_every_nth(tmp_path):
    assert left_out(tmp_path, 8, None, skip_projections=[0, [5, 6], 40]) == [0, 5, 6]
    assert left_out(tmp_path, 7, None, every=3) == [1, 2, 4, 5]
    assert left_out(tmp_path, 7, None, every=3, skip_projections=[3]) == [1, 2, 3, 4, 5]
    assert left_out(tmp_path, 3, [0, np.nan], skip_angles=[[-1, 1]]) == [0]


def test_the_reader_gives_what_is_left_and_the_inventory_counts_it(tmp_path):
    truth = write_scan(tmp_path / "s_1.h5", n_angles=19, **SIZE)
    known = {"every": 2, "skip_angles": [[75, 105]], "skip_projections": [18]}
    with open_scan(truth.path) as whole, open_scan(truth.path, options=known) as scan:
        left = [0, 2, 4, 6, 12, 14, 16]
        np.testing.assert_array_equal(scan.read_rows(1, 3), whole.read_rows(1, 3)[left])
        np.testing.assert_array_equal(scan.theta_rad, whole.theta_rad[left])
    entry = {"scan": "s_1", "path": str(truth.path), "series": "s", "index": 1, "reason": ""}
    table = tmp_path / "inventory.tsv"
    options = {"min_fraction": 0.5}
    (row,) = inventory([entry], table, known=known, **options)
    assert (row["n_angles"], row["keep"]) == (7, True)
    assert row["bytes"] == 19 * 3 * 128 * 4  # the size of the scan tells whether it is complete
    assert "7 of 19 projections in use" in row["found"]
    (row,) = inventory([entry | {"own": {}}], table, known=known, **options)
    assert row["n_angles"] == 19


def test_a_number_beyond_the_last_projection_is_named(tmp_path):
    path = write_scan(tmp_path / "s_1.h5", n_angles=19, **SIZE).path
    reaching = read_metadata(path, options={"skip_projections": [0, [15, 5000]]})
    beyond = read_metadata(path, options={"skip_projections": [0, 19, [30, 40]]})
    assert set(beyond.warnings) - set(reaching.warnings) == {
        "input.skip_projections: 19, [30, 40]: the scan has projections 0 to 18"
    }


def test_leaving_out_all_is_an_error_that_names_the_keys(tmp_path):
    truth = write_scan(tmp_path / "s_1.h5", n_angles=19, **SIZE)
    with pytest.raises(ScanError, match=r"none of 19 projections is in use: input\.every"):
        read_metadata(truth.path, options={"skip_projections": [[0, 18]]})


def test_an_angle_that_is_not_finite_does_no_harm_once_it_is_left_out(tmp_path):
    truth = write_scan(tmp_path / "s_1.h5", n_angles=19, **SIZE)
    with h5py.File(truth.path, "r+") as file:
        file["exchange/theta"][4] = np.nan
    with pytest.raises(ScanError, match="not finite"), open_scan(truth.path):
        pass
    with open_scan(truth.path, options={"skip_projections": [4]}) as scan:
        assert scan.n_angles == 18


def chain(truth, folder, methods=("classical",), **options):
    """Return the predicted COR and the volume at the true one."""
    folder.mkdir(exist_ok=True)
    grid = {"width_px": 6, "step_px": 1}
    assert "failed" not in try_in(folder, truth.path, device="cpu", **grid, **options)
    found = predict_in(folder, methods=methods)
    assert found["verdict"] == "resolved", json.dumps(found, indent=1)
    options |= {"cor_px": COR_PX, "device": "cpu"}
    return found["cor_px"], volume_of(truth.path, folder / "volume.h5", **options)


@pytest.fixture(scope="module")
def ordered(tmp_path_factory):
    """A scan of 181 angles from 0 to 180 degrees, through the chain: truth, COR, volume."""
    folder = tmp_path_factory.mktemp("ordered")
    truth = write_scan(folder / "a.h5", n_angles=181, **SIZE)
    return truth, *chain(truth, folder)


def interlaced(n_angles, n_turns):
    """Rotations by 180 degrees one after the other, each between the angles of those before."""
    return np.concatenate([np.arange(k, n_angles, n_turns) for k in range(n_turns)])


ORDERS = {
    "interlaced": interlaced(181, 8),
    "backwards": np.arange(181)[::-1],
    "shuffled": np.random.default_rng(1).permutation(181),
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_the_angles_changes_neither_cor_nor_volume(tmp_path, ordered, order):
    truth, cor_px, volume = ordered
    theta_deg = truth.theta_deg[ORDERS[order]]
    other = write_scan(tmp_path / "b.h5", theta_deg=theta_deg, **SIZE)
    other_px, same = chain(other, tmp_path)
    assert abs(other_px - COR_PX) < 0.1
    assert abs(other_px - cor_px) < 0.01
    assert np.abs(same - volume).max() < 1e-4 * np.abs(volume).max()


def error_of(truth, volume):
    """Root mean square of the error inside the circle that all angles see."""
    y, x = np.indices(volume.shape[1:]) - truth.n_cols / 2
    inside = np.hypot(x, y) < 0.4 * truth.n_cols
    wanted = truth.volume()[:, inside]
    return np.sqrt(np.mean((volume[:, inside] - wanted) ** 2)) / wanted.std()


def test_golden_angles(tmp_path, ordered):
    """The sample rotates by 111.2 degrees per projection, through dozens of rotations."""
    golden = write_scan(tmp_path / "g.h5", theta_deg=np.arange(181) * GOLDEN_DEG, **SIZE)
    cor_px, volume = chain(golden, tmp_path, METHODS)
    assert abs(cor_px - COR_PX) < 0.1
    assert error_of(golden, volume) < 1.15 * error_of(ordered[0], ordered[2])


@pytest.mark.parametrize(
    ("span_deg", "known"),
    [
        (180, {"skip_angles": [[80, 100]]}),
        (360, {"skip_angles": [[80, 100]]}),
        (180, {"every": 3}),
        (180, {"skip_projections": [[20, 23], 90, 91]}),
    ],
)
def test_the_cor_is_found_without_what_is_left_out(tmp_path, span_deg, known):
    """The skipped projections are spoilt: nobody may look at them."""
    theta = np.linspace(0, span_deg, span_deg + 1)
    truth = write_scan(tmp_path / "s.h5", theta_deg=theta, **SIZE)
    used = read_metadata(truth.path, options=known).chosen
    with h5py.File(truth.path, "r+") as file:
        for number in np.setdiff1d(np.arange(len(theta)), used):
            file["exchange/data"][number] = 3
    other = write_scan(tmp_path / "o.h5", theta_deg=theta[used], **SIZE)
    cor_px, volume = chain(truth, tmp_path, known=known)
    assert abs(cor_px - COR_PX) < 0.1
    alone_px, alone = chain(other, tmp_path)  # a scan that was recorded so
    assert cor_px == alone_px
    np.testing.assert_array_equal(volume, alone)


def test_a_gap_is_not_filled_by_its_neighbours():
    """A disk seen but for 30 degrees: its value holds, and its streaks are those of the gap."""
    n_cols, radius, mu = 128, 30.0, 0.01
    theta = np.deg2rad(np.arange(0, 180, 1.0))
    theta = theta[(theta < np.deg2rad(70)) | (theta > np.deg2rad(100))]
    weight = angle_weights(theta)
    assert weight.max() < 2.01 * np.median(weight)
    y, x = np.indices((n_cols, n_cols)).astype(float)
    at_x, at_y = x - n_cols // 2, y - (n_cols // 2 - 1)
    centres = [(15.0, -8.0), (-20.0, 21.0)]
    sinogram = np.zeros((len(theta), n_cols))
    truth = np.zeros((n_cols, n_cols))
    for cx, cy in centres:
        s = np.arange(n_cols) - COR_PX - (cx * np.cos(theta) - cy * np.sin(theta))[:, None]
        sinogram += 2 * mu * np.sqrt(np.clip((radius / 2) ** 2 - s**2, 0, None))
        truth += mu * (np.hypot(at_x - cx, at_y - cy) < radius / 2)
    plan = make_plan(theta, n_cols)
    image = reconstruct(sinogram[None].astype("f4"), plan, COR_PX)[0]
    for cx, cy in centres:
        inside = np.hypot(at_x - cx, at_y - cy) < 0.3 * radius
        assert image[inside].mean() == pytest.approx(mu, rel=0.1)
    # what weights that fill the gap would make of it
    gaps = np.diff(theta, append=theta[0] + np.pi)
    filling = (gaps + np.roll(gaps, 1)) / 2
    scale = (filling / weight)[:, None]
    filled = reconstruct((sinogram * scale)[None].astype("f4"), plan, COR_PX)[0]
    circle = np.hypot(at_x, at_y) < 0.45 * n_cols
    ours, theirs = (np.sqrt(np.mean((result - truth)[circle] ** 2)) for result in (image, filled))
    assert ours < 0.92 * theirs
