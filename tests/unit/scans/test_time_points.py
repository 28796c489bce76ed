"""Time points: which projections they have, what they read, and what tells that one changed."""

from datetime import UTC, datetime

import h5py
import numpy as np
import pytest

from tests.exchange_files import read_metadata, write_time_series
from tests.nxtomo_files import KEYS, frames_of, write_nxtomo
from tomopipe.config import InputBlock
from tomopipe.config.blocks import Windows
from tomopipe.errors import ScanError
from tomopipe.scans.exchange import open_scan
from tomopipe.scans.time_points import time_points_of, windows

HALF, BACK = np.arange(180.0), np.arange(180.0)[::-1]
CLOSED = np.linspace(0, 180, 181)  # the last projection is at 180 degrees
JITTER_DEG = np.random.default_rng(5).normal(0, 0.1, 720)


@pytest.mark.parametrize(
    ("theta_deg", "turns", "firsts", "last"),
    [
        (np.arange(720.0), 180, [0, 180, 360, 540], 719),
        (np.arange(720.0), 360, [0, 360], 719),
        (-np.arange(720.0), 180, [0, 180, 360, 540], 719),
        (np.arange(720.0) + JITTER_DEG, 360, [0, 360], 719),
        (np.mod(np.arange(720.0) + 30, 360), 180, [0, 180, 360, 540], 719),
        (np.tile(HALF, 3), 180, [0, 180, 360], 539),
        (np.tile(CLOSED, 3), 180, [0, 181, 362], 541),
        (np.tile(np.linspace(0, 360, 361), 2), 180, [0, 180, 361, 541], 720),
        (np.concatenate([HALF, BACK, HALF]), 180, [0, 180, 360], 539),
        (np.linspace(0, 36000, 36001), 180, [180 * n for n in range(200)], 35999),
        # a gap: what comes after it begins anew
        (np.concatenate([HALF, 300 + HALF]), 180, [0, 180], 359),
    ],
)
def test_turns_begin_where_the_stage_has_turned_so_far(theta_deg, turns, firsts, last):
    found = windows(theta_deg, len(theta_deg), turns)
    assert [point.span[0] for point in found] == firsts
    assert found[-1].span[1] == last
    assert not any(point.refused for point in found)


def test_a_turn_that_is_not_whole_is_refused():
    found = windows(np.arange(720.0), 500, 180)  # of 720 planned
    assert [point.span for point in found] == [(0, 179), (180, 359), (360, 499)]
    assert [point.refused for point in found] == ["", "", "140 of 180 degrees so far"]
    one_short, *_ = windows(np.arange(720.0), 179, 180)
    assert one_short.refused
    # the stage begins again, and has made too few steps to tell how
    for n, how_many in ((1, "1 projection"), (9, "9 projections")):
        *_, few = windows(np.tile(HALF, 3), 360 + n, 180)
        assert few.span == (360, 359 + n)
        assert few.refused == f"{how_many} of the next 180 degrees so far"
    counted = windows(None, 500, Windows(n_angles=200, step=100, start=50))
    assert [point.span for point in counted] == [(50, 249), (150, 349), (250, 449), (350, 499)]
    assert [point.refused for point in counted] == ["", "", "", "150 of 200 projections so far"]


@pytest.mark.parametrize(
    ("theta_deg", "turns", "words"),
    [
        (np.mod(111.246 * np.arange(500), 180), 180, "turns: {n_angles: N}"),
        (np.full(500, np.nan), 180, "turns: {n_angles: N}"),
        (None, 180, "set input.angles"),
        (None, Windows(n_angles=10, start=500), "the file has 500 projections so far"),
    ],
)
def test_projections_without_such_an_order_are_named(theta_deg, turns, words):
    with pytest.raises(ScanError, match=words):
        windows(theta_deg, 500, turns)


def test_a_window_reads_its_own_projections_and_knows_when_flats_were_taken(tmp_path):
    theta_deg = np.tile(np.arange(0, 180, 6.0), 3)
    path = write_time_series(tmp_path / "a.h5", theta_deg, after=True)
    with open_scan(path, options={"window": [30, 59], "every": 2}) as scan:
        assert (scan.n_angles, scan.n_flats) == (15, 4)
        assert scan.theta_deg == pytest.approx(np.arange(0, 180, 12))
        assert scan.read_rows(0, 1)[:, 0, 0].tolist() == [*range(30, 60, 2)]
        # as many projections before the window, and after it, as it has
        assert scan.flat_positions.tolist() == [-15, -15, 30, 30]
        assert scan.read_monitor("/exchange/monitor").tolist() == [*range(30, 60, 2)]
    with (
        pytest.raises(ScanError, match="the scan has 90 projections"),
        open_scan(path, options={"window": [60, 90]}),
    ):
        pass


def test_a_window_of_keyed_frames_reads_its_own(tmp_path):
    path = write_nxtomo(tmp_path / "a.nx")
    with open_scan(path, options={"window": [3, 5]}) as scan:
        index = np.flatnonzero(KEYS == 0)[3:]
        assert np.array_equal(scan.read_rows(0, 3), frames_of()[index])
        assert scan.theta_deg.tolist() == [90, 120, 150]


def test_a_window_has_the_time_of_its_first_frame(tmp_path):
    def date(group):
        group["start_time"], group["end_time"] = "2024-05-01T12:00:00+02:00", "2024-05-01T10:01:10Z"

    path = write_nxtomo(tmp_path / "a.nx", change=date)
    start_s = datetime(2024, 5, 1, 10, tzinfo=UTC).timestamp()
    assert read_metadata(path).time_s == start_s
    # 14 frames in 70 s; projection 3 is frame 9
    assert read_metadata(path, options={"window": [3, 5]}).time_s == pytest.approx(start_s + 45)
    path = write_time_series(tmp_path / "a.h5", np.arange(0, 360, 6.0))
    assert read_metadata(path).time_s is None
    with h5py.File(path, "a") as file:
        file["process/acquisition/start_date"] = "2024-05-01T10:00:00"
    assert read_metadata(path).time_s == start_s
    assert read_metadata(path, options={"window": [30, 59]}).time_s is None  # no end is known
    with h5py.File(path, "a") as file:
        file["process/acquisition/end_date"] = "2024-05-01 10:01:00"
    assert read_metadata(path, options={"window": [30, 59]}).time_s == start_s + 30


@pytest.mark.parametrize("kind", ["chunked", "contiguous", "virtual", "keyed"])
def test_a_time_point_is_the_same_until_its_own_data_change(kind, tmp_path):
    path = tmp_path / "a.h5"
    theta_deg = np.tile(np.arange(0, 180, 6.0), 3)
    source = write_time_series(tmp_path / ("s.h5" if kind == "virtual" else "a.h5"), theta_deg)
    where, first = "exchange/data", 0
    if kind == "contiguous":
        with h5py.File(path, "a") as file:
            data = file[where][()]
            del file[where]
            file[where] = data
    if kind == "virtual":
        write_time_series(path, theta_deg)
        with h5py.File(path, "a") as file:
            del file[where]
            layout = h5py.VirtualLayout((90, 4, 5), "u2")
            layout[:] = h5py.VirtualSource("s.h5", where, (90, 4, 5))
            file.create_virtual_dataset(where, layout)
    if kind == "keyed":
        path, source = tmp_path / "a.nx", tmp_path / "a.nx"
        keys, where, first = [2, 1, *np.zeros(90, int)], "entry0000/instrument/detector/data", 2
        write_nxtomo(path, keys=np.array(keys), angles=np.array([0, 0, *theta_deg]))
    before = time_points_of(path, 180, InputBlock())
    assert len({point.content for point in before}) == 3

    def changed():
        pairs = zip(before, time_points_of(path, 180, InputBlock()), strict=False)
        return [number for number, (was, now) in enumerate(pairs) if was != now]

    if kind == "chunked":
        write_time_series(path, np.arange(0, 180, 6.0))  # appended
        assert len(time_points_of(path, 180, InputBlock())) == 4
    with h5py.File(source, "a") as file:
        file["elsewhere"] = np.zeros(1000)
    assert changed() == []
    with h5py.File(source, "a") as file:
        part = slice(first + 30, first + 60)
        file[where][part] = file[where][part] + 1
    assert changed() == [1]
    with h5py.File(path, "a") as file:
        flats = file["exchange/data_white"] if kind != "keyed" else file[where]
        flats[:2] = flats[:2] + 1
    assert changed() == [0, 1, 2]


def test_another_monitor_or_position_is_another_time_point(tmp_path):
    path = write_time_series(tmp_path / "a.h5", np.tile(np.arange(0, 180, 6.0), 3))
    with h5py.File(path, "a") as file:
        file["sample/x"] = np.zeros(90)

    def contents(monitor="exchange/monitor", uses_positions=True):
        points = time_points_of(path, 180, InputBlock(), monitor, uses_positions=uses_positions)
        return [point.content for point in points]

    unused = contents(None, uses_positions=False)

    for name in ("exchange/monitor", "sample/x"):
        before = contents()
        with h5py.File(path, "a") as file:
            file[name][30:60] += 3
        assert [was != now for was, now in zip(before, contents(), strict=True)] == [0, 1, 0]
    before = contents()
    with h5py.File(path, "a") as file:
        file["sample/x"].attrs["units"] = "mm"
    assert not set(before) & set(contents())
    assert contents("exchange") == contents("exchange/none") == contents(None)
    assert contents(None, uses_positions=False) == unused


def test_other_values_of_the_monitor_for_flats_count_for_all_time_points(tmp_path):
    keys, theta_deg = np.array([1, *np.zeros(60, int)]), np.tile(np.arange(0, 180, 6.0), 2)
    path = write_nxtomo(tmp_path / "a.nx", keys=keys, angles=np.array([0, *theta_deg]))
    with h5py.File(path, "a") as file:
        file["monitor"] = np.ones(61)
    before = time_points_of(path, 180, InputBlock(), "monitor")
    for place, others in ((40, [False, True]), (0, [True, True])):
        with h5py.File(path, "a") as file:
            file["monitor"][place] = 2.0
        now = time_points_of(path, 180, InputBlock(), "monitor")
        assert [a != b for a, b in zip(before, now, strict=True)] == others
        before = now
    with h5py.File(path, "a") as file:  # the monitor is ahead of the frames
        del file["monitor"]
        file["monitor"] = np.array([2.0, *np.ones(39), 2, *np.ones(25)])
    assert time_points_of(path, 180, InputBlock(), "monitor") == before


def test_windows_of_frames_with_a_horizontal_axis_and_none_of_sinograms(tmp_path):
    path = write_time_series(tmp_path / "a.h5", np.tile(np.arange(0, 180, 6.0), 2))
    points = time_points_of(path, 180, InputBlock(axes=["angle", "col", "row"]))
    assert [point.span for point in points] == [(0, 29), (30, 59)]
    with h5py.File(path, "a") as file:
        data = file["exchange/data"][()].transpose(1, 0, 2)
        del file["exchange/data"]
        file["exchange/data"] = data
    with pytest.raises(ScanError, match="sinograms"):
        time_points_of(path, 180, InputBlock(axes=["row", "angle", "col"]))


def test_a_corrected_mirror_is_another_time_point(tmp_path):
    keys, theta_deg = np.array([1, *np.zeros(30, int)]), np.arange(0, 180, 6.0)
    path = write_nxtomo(tmp_path / "a.nx", keys=keys, angles=np.array([0, *theta_deg]))
    contents = set()
    for state in (False, True, False):
        with h5py.File(path, "a") as file:
            detector = file["entry0000/instrument/detector"]
            detector.pop("x_flipped", None)
            detector["x_flipped"] = state
        (point,) = time_points_of(path, 180, InputBlock())
        contents.add(point.content)
    assert len(contents) == 2
