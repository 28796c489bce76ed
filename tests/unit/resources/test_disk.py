"""Disk that volumes take where half acquisition doubles their slices, and of selected columns.

CPU time and cores of jobs.
"""

import json
import re
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from tests.exchange_files import write_time_series
from tests.phantoms import write_scan
from tests.step_calls import try_recon, volume_of
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.config import Config, FullReconBlock
from tomopipe.reruns.settle import expected_inventory
from tomopipe.resources.disk import KINDS, disk_needed, lack_of_disk, may_be_wider, still_to_make
from tomopipe.resources.jobs import volume_s

SMALL, LARGE = (900, 64, 1024), (3000, 2048, 2048)


def test_time_goes_with_the_size_and_the_iterations():
    assert volume_s(LARGE, FullReconBlock()) == pytest.approx(2048 * 0.07, rel=0.1)
    ten, twenty = (
        volume_s(LARGE, FullReconBlock(algorithm="sirt", iterations=n)) for n in (10, 20)
    )
    assert twenty == pytest.approx(2 * ten, rel=0.01)


N_COLS, N_ROWS = 40, 2
THETA_360 = np.linspace(0, 360, 60, endpoint=False)
PLAIN_BYTES = 4 * N_ROWS * N_COLS**2


@pytest.fixture
def look(tmp_path):
    """Return a function that reads the campaign and its inventory."""
    for name, theta_deg in (("half_1", np.linspace(0, 180, 30)), ("turn_1", THETA_360)):
        write_scan(
            tmp_path / "raw" / f"{name}.h5", theta_deg=theta_deg, n_cols=N_COLS, n_rows=N_ROWS
        )
    (tmp_path / "seen").mkdir()

    def found(**blocks):
        campaign = campaign_from_data({"campaign": {"scans": ["raw/*.h5"]}, **blocks}, tmp_path)
        return campaign, expected_inventory(campaign, tmp_path / "seen")

    return found


def volumes(campaign, rows):
    return {
        scan: disk_needed(campaign, [("full_recon", scan)], rows)["volumes"] / PLAIN_BYTES
        for scan in rows
    }


def test_the_angles_tell_who_may_be_doubled_and_the_cor_who_is(look, tmp_path):
    campaign, rows = look()
    assert [rows[scan]["full_turn"] for scan in ("half_1", "turn_1")] == ["false", "true"]
    assert volumes(campaign, rows) == {"half_1": 1, "turn_1": 1}
    assert may_be_wider(campaign, rows) == ["turn_1"]
    assert may_be_wider(*look(preprocess={"half_acquisition": "no"})) == []
    for cor_px, factor in ((20.0, 1), (36.5, 4), (3.0, 4)):
        (tmp_path / "scans.tsv").write_text(f"scan\tcor_px\nturn_1\t{cor_px}\nhalf_1\t{cor_px}\n")
        campaign, rows = look()
        assert volumes(campaign, rows) == {"half_1": 1, "turn_1": factor}
        assert may_be_wider(campaign, rows) == []
    # who asks for it gets an error, not a volume, where the angles do not cover 360 degrees
    assert volumes(*look(preprocess={"half_acquisition": "yes"})) == {"half_1": 1, "turn_1": 4}
    raw, path = tmp_path / "raw" / "turn_1.h5", tmp_path / "v.h5"
    assert volume_of(raw, path, cor_px=36.5, device="cpu").nbytes == 4 * PLAIN_BYTES


def test_a_large_volume_has_averages_too(look):
    """As in the file: at most a fiftieth of a volume that is not thin."""
    campaign, rows = look()
    rows = {"half_1": rows["half_1"] | {"n_rows": "2048", "n_cols": "2048"}}
    needed = volumes(campaign, rows)["half_1"] * PLAIN_BYTES
    assert 1.01 < needed / (4 * 2048**3) < 1.02


def test_the_cor_of_the_last_run_counts_too_and_options_rule(look, tmp_path):
    (tmp_path / "results").mkdir()
    entry = {"turn_1": {"cor_px": 36.5, "source": "auto"}}
    (tmp_path / "results" / "cor.json").write_text(json.dumps(entry))
    assert volumes(*look())["turn_1"] == 4
    assert volumes(*look(preprocess={"half_acquisition": "no"}))["turn_1"] == 1
    assert volumes(*look(full_recon={"algorithm": "sirt"}))["turn_1"] == 1
    # of these columns the axis is in the middle
    cut = volumes(*look(input={"columns": [31, 39]}))
    assert cut == {"half_1": (9 / N_COLS) ** 2, "turn_1": (9 / N_COLS) ** 2}
    gap = look(input={"skip_angles": [[80.0, 120.0]]})
    assert gap[1]["turn_1"]["full_turn"] == "true"
    gap = look(input={"skip_angles": [[80.0, 150.0]]})
    assert gap[1]["turn_1"]["full_turn"] == "false"
    assert volumes(*gap)["turn_1"] == 1


def test_scans_of_known_cor_have_no_sweep(look, tmp_path):
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\nhalf_1\t19.5\nturn_1\t40\n")
    turn_alone = still_to_make(*look(), [])["try stacks"]  # 40 is off the detector
    (tmp_path / "scans.tsv").unlink()
    both = still_to_make(*look(), [])["try stacks"]
    assert 0 < turn_alone < both
    (tmp_path / "scans.tsv").write_text("scan\tcor_px\nhalf_1\t19.5\nturn_1\t39\n")
    found = still_to_make(*look(), [])
    assert found["try stacks"] == 0
    assert found["volumes"] >= 2 * PLAIN_BYTES
    always = look(predict_cor={"when": "always"})
    assert still_to_make(*always, [])["try stacks"] == both


def test_a_sweep_near_an_edge_is_of_doubled_slices(look):
    def sweep(center_px):
        campaign, rows = look(try_recon={"center_px": center_px, "width_px": 2, "step_px": 1})
        return disk_needed(campaign, [("try_recon", "turn_1")], rows)["try stacks"]

    assert sweep(36.0) - sweep(20.0) == 5 * 2 * 3 * N_COLS**2


def test_a_sweep_of_few_angles_and_many_rows_is_as_large_as_its_files(look, tmp_path):
    """Most of them are whole projections: opposing pairs, and those at the ends."""
    size = {"n_cols": N_COLS, "n_rows": 200, "compression": "gzip"}
    write_scan(tmp_path / "raw" / "tall_1.h5", theta_deg=np.linspace(0, 360, 41), **size)
    grid = {"width_px": 2, "step_px": 1}
    campaign, rows = look(try_recon=grid)
    expected = disk_needed(campaign, [("try_recon", "tall_1")], rows)["try stacks"]
    files = [tmp_path / name for name in ("try.tif", "try.json", "rows.h5")]
    try_recon(tmp_path / "raw" / "tall_1.h5", *files, **grid)
    # besides values HDF5 has names, profiles of the projections, and means of blocks
    size_bytes = sum(path.stat().st_size for path in files)
    assert size_bytes == pytest.approx(expected, abs=65_000)
    assert expected > 4 * (5 * 41 + 8 * 200) * N_COLS


@pytest.mark.parametrize(
    ("most", "blocks"),
    [
        ("try stacks", {"try_recon"}),
        ("volumes", {"full_recon"}),
        ("stitched volumes", {"full_recon"}),
        ("stacks for RELION", {"export_star"}),
    ],
)
def test_a_lack_of_disk_names_the_keys_of_what_takes_most(look, most, blocks):
    campaign, _ = look()
    needed = dict.fromkeys(KINDS.values(), 1)
    assert lack_of_disk(campaign, needed) == []
    (said,) = lack_of_disk(campaign, needed | {most: 10**18})
    assert " needed, " in said
    assert f": {most} take " in said
    named = re.findall(r"[a-z_]+\.[a-z_]+", said.partition("or set")[2])
    assert {key.split(".")[0] for key in named} == blocks
    for block, key in (name.split(".") for name in named):
        assert key in Config.model_fields[block].annotation.model_fields


def test_frames_that_alone_have_no_room_need_not_be_shared(look):
    """Of 3 PB all volumes, 2 PB, have room."""
    campaign, _ = look()
    free = 2 * 10**15
    needed = {"volumes": free, "frames that volumes share": 10**15}
    usage = SimpleNamespace(total=free, used=0, free=free)
    with mock.patch("shutil.disk_usage", return_value=usage):
        (error,) = lack_of_disk(campaign, needed)
        assert "set storage.share_frames: false: frames that volumes share take" in error
        (error,) = lack_of_disk(campaign, needed | {"volumes": free + 1})
        assert "full_recon.binning" in error
        assert lack_of_disk(campaign, {"volumes": free}) == []


@pytest.mark.parametrize(
    ("step", "is_set", "is_shared"), [(10, True, True), (10, False, False), (18, True, False)]
)
def test_frames_that_volumes_share_lie_on_the_disk_once(tmp_path, step, is_set, is_shared):
    """As the file of `shared_frames`: two bytes a pixel, of all frames of windows that overlap.

    Three windows of 20 read 60 projections of 40, 1.5 times each; of 56 they are not shared.
    """
    write_time_series(tmp_path / "fast.h5", 10.0 * np.arange(57))
    scans = [{"glob": "*.h5", "turns": {"n_angles": 20, "step": step}}]
    data = {"campaign": {"scans": scans}, "storage": {"share_frames": is_set}}
    campaign = campaign_from_data(data, tmp_path)
    rows = expected_inventory(campaign, tmp_path)
    jobs = [("full_recon", f"fast@t000{number}") for number in (0, 1, 2)]
    needed, pending = disk_needed(campaign, jobs, rows), still_to_make(campaign, rows, [])
    assert ("frames that volumes share" in pending) == is_shared
    row = rows["fast@t0000"]
    copy = 40 * int(row["n_rows"]) * int(row["n_cols"]) * 2
    volumes = needed.pop("volumes")
    assert volumes == 3 * 4 * int(row["n_rows"]) * int(row["n_cols"]) ** 2
    assert needed == ({"frames that volumes share": copy} if is_shared else {})
