"""`tomopipe clean` on a fabricated campaign; that nothing runs again is tested on real ones."""

import re

import numpy as np
import pytest
import yaml

from tests.review_campaign import make_campaign
from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.data import clean
from tomopipe.errors import TomopipeError
from tomopipe.report.collected_records import collect
from tomopipe.run import retention
from tomopipe.volumes.volume import new_volume

ACCEPTED = {"bone_001", "bone_002", "bone_003", "bone_004", "bone_007"}


@pytest.fixture
def campaign(tmp_path):
    make_campaign(tmp_path)
    for scan in load_campaign(tmp_path).scans:
        make_volume(tmp_path, scan)
    return tmp_path


def make_volume(campaign, scan, off_px=0.0):
    """Make a volume at the COR that a scan has, or beside it; none where it has none."""
    found = load_campaign(campaign)
    (record,) = [each for each in collect(found).scans if each.name == scan]
    if record.volume and record.cor_px is not None:
        provenance = {"cor": {"cor_px": record.cor_px + off_px}}
        with new_volume(record.volume, (1, 2, 2), attributes={}, provenance=provenance) as put:
            put(0, np.float32([[[0, 1], [2, 3]]]))


def declare(campaign, **storage):
    path = campaign / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"storage": storage}))


def try_stacks(campaign):
    return {path.parent.name for path in campaign.glob("results/try_center/*/try.tif")}


def test_try_stacks_go_only_when_it_is_meant(campaign, capsys):
    before = try_stacks(campaign)
    with pytest.raises(TomopipeError, match=r"set storage\.keep_try"):
        clean(campaign)
    declare(campaign, keep_try=False)
    clean(campaign, dry_run=True)
    assert "results/try_center/bone_001/try.tif" in capsys.readouterr().out
    assert try_stacks(campaign) == before
    clean(campaign)
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"4 try stacks, \S+ MB: removed", said)
    kept = before - ACCEPTED  # bone_005 barely passed, wood_1 has no COR
    assert try_stacks(campaign) == kept >= {"bone_005", "wood_1"}


def test_only_scans_that_need_no_eyes_are_accepted(campaign):
    """Not the fixed, the filled, the failed, the doubtful, nor those not selected."""
    assert set(retention.accepted_scans(load_campaign(campaign))) == ACCEPTED
    table = campaign / "scans.tsv"
    table.write_text(table.read_text().replace("513.65", "514.5"))  # typed since the run
    assert set(retention.accepted_scans(load_campaign(campaign))) == ACCEPTED - {"bone_007"}


def test_where_nothing_goes_it_says_how_many_are_not_accepted(campaign, capsys):
    declare(campaign, keep_try=False)
    clean(campaign)
    assert "not accepted" not in capsys.readouterr().out
    clean(campaign, dry_run=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "no files, 0.00 GB: would be removed"
    assert second.startswith("8 of 13 scans are not accepted")
    (campaign / "results" / "bone_001_rec.h5").unlink()
    accepted = ACCEPTED - {"bone_001"}
    assert set(retention.accepted_scans(load_campaign(campaign))) == accepted
    make_volume(campaign, "bone_002", off_px=1.0)
    accepted -= {"bone_002"}
    assert set(retention.accepted_scans(load_campaign(campaign))) == accepted
