"""Nothing has changed since a decision found no job: then it is not made again."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.workflow.conftest import configure
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands import run_request
from tomopipe.commands.run_request import finished_campaign
from tomopipe.reruns.receipts import Receipts
from tomopipe.run import seal
from tomopipe.workflow_steps import STEPS

NO_RESULTS = ("logs/", ".snakemake", "snakemake.out", "results/report/pictures/", "results/.seal")


@pytest.fixture
def sealed(campaign):
    assert finished_campaign(campaign, None)  # which may save the times of a copy
    assert finished_campaign(campaign, None)
    assert seal.fits(load_campaign(campaign))
    return campaign


def no_decision(*_, **__):
    raise AssertionError("decided")


def test_a_sealed_campaign_is_decided_on_when_anything_has_changed(sealed, monkeypatch):
    monkeypatch.setattr(run_request, "Settled", no_decision)
    assert finished_campaign(sealed, None)
    raw = raw_files(sealed)
    files = sorted(path for path in sealed.rglob("*") if path.is_file())
    files = [p for p in files if not str(p.relative_to(sealed)).startswith(NO_RESULTS)]
    files = [p for p in files if p.name not in ("scans.tsv", "scans.history.tsv", "config.yaml")]
    assert len(files) > 50
    new = ["made/full_recon/x.json", "try_center/x", "x_rec.mrc", "relion/tilt_series/x.star"]
    new = [*(sealed / "results" / name for name in new), sealed / "raw" / "x.h5"]
    loaded, unseen = load_campaign(sealed), []
    last = seal.state_of(loaded, raw)
    acts = [(path, os.utime) for path in files] + [(path, os.unlink) for path in files[::9]]
    for path, act in [*acts, *((path, Path.touch) for path in new)]:
        act(path)
        before, last = last, seal.state_of(loaded, raw)
        unseen += [path.relative_to(sealed)] * (before == last)
    assert unseen == []
    assert not seal.fits(loaded)
    with pytest.raises(AssertionError, match="decided"):
        finished_campaign(sealed, None)


def raw_files(campaign: Path) -> set[str]:
    loaded = load_campaign(campaign)
    return run_request._raw_files(loaded, Receipts(campaign, loaded.outputs))


def test_raw_files_elsewhere_options_code_and_table_count(sealed, tmp_path, monkeypatch):
    loaded, elsewhere = load_campaign(sealed), tmp_path / "linked.h5"
    before = seal.state_of(loaded, [str(elsewhere)])
    elsewhere.write_bytes(b"1")
    assert seal.state_of(loaded, [str(elsewhere)]) != before
    (sealed / "raw").chmod(0o555)
    assert not seal.fits(loaded)  # sidecars would go elsewhere
    (sealed / "raw").chmod(0o755)
    row = {"linked": '{"far/a.h5": [1, 2]}', "also_read": ""}
    with monkeypatch.context() as patch:
        patch.setattr(run_request, "present_inventory", lambda _: {"a_1": row})
        assert "far/a.h5" in raw_files(sealed)
    revised = STEPS | {"full_recon": replace(STEPS["full_recon"], revision=99)}
    monkeypatch.setattr(seal, "STEPS", revised)
    assert not seal.fits(loaded)
    monkeypatch.undo()
    assert seal.fits(loaded)
    configure(sealed, "export_star", enabled="auto", hand=-1)  # a default that is given counts
    assert not seal.fits(load_campaign(sealed))


def test_code_of_other_packages_is_not_sealed(campaign, monkeypatch):
    entry = SimpleNamespace(value="of_a_site.corrections:mine")
    monkeypatch.setattr(seal, "installed", lambda _: {"mine": [entry]})
    assert finished_campaign(campaign, None)
    assert finished_campaign(campaign, None)
    assert not (campaign / "results" / ".seal.json").exists()


def test_an_edit_of_many_scans_is_decided_on_by_snakemake_alone(campaign, monkeypatch):
    monkeypatch.setattr(run_request, "Settled", no_decision)
    monkeypatch.setattr(run_request, "_MANY", 0)
    index = campaign / "results" / ".settled.json"
    os.utime(index, (1e9, 1e9))
    assert finished_campaign(campaign, None) is None
    os.utime(index)
    with pytest.raises(AssertionError, match="decided"):
        finished_campaign(campaign, None)
