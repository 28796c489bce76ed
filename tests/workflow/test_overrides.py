"""An override of one scan, added, changed and taken away: what runs after it, and nothing else."""

import json

import yaml

from tests.workflow.conftest import snakemake
from tests.workflow.test_reruns import TAIL, expect


def override(campaign, **blocks):
    path = campaign / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["overrides"] = [{"scans": ["a_2"], **blocks}] if blocks else []
    path.write_text(yaml.safe_dump(config))


def test_preprocess_of_one_scan(campaign):
    """Predictions come out as they were, as their finders see the plain rows; the page cites it."""
    override(campaign, preprocess={"stripes": {"method": "vo"}})
    chain = {f"{rule}:a_2" for rule in ("try_recon", "predict_cor", "full_recon", "export_stack")}
    expect(campaign, {*chain, "fix_cor:a", "resolve_cor", *TAIL}, pending=True)
    page = (campaign / "results" / "report" / "index.html").read_text(encoding="utf-8")
    assert "doi:10.1364/OE.26.028396" in page


def test_the_grid_of_one_scan(campaign):
    found = json.loads((campaign / "results/try_center/a_2/try.json").read_text())["cor_px"]
    override(campaign, try_recon={"center_px": found[len(found) // 2] + 2, "width_px": 9})
    sidecars = {scan: campaign / "raw" / f"{scan}.cor.json" for scan in ("a_1", "a_2")}
    sidecars["a_2"].unlink()
    run = snakemake(campaign)
    chain = {f"{rule}:a_2" for rule in ("try_recon", "predict_cor")}
    changed = {"fix_cor:a", "resolve_cor", "full_recon:a_2", "sidecar", "export_stack:a_2", *TAIL}
    assert chain <= run.jobs <= chain | changed, run.text  # the COR may come out as it was
    moved = json.loads((campaign / "results/try_center/a_2/try.json").read_text())["cor_px"]
    assert (moved[0], moved[-1]) == (found[len(found) // 2] - 7, found[len(found) // 2] + 11)
    stated = {scan: json.loads(path.read_text())["parameters"] for scan, path in sidecars.items()}
    assert [stated[scan]["try_recon"]["width_px"] for scan in stated] == [8, 9]
    assert stated["a_2"].keys() == stated["a_1"].keys()
    assert snakemake(campaign).jobs == frozenset()


def test_an_override_that_says_what_is_so_already_runs_nothing(campaign):
    override(campaign, full_recon={"filter": "ramp"}, preprocess={"minus_log": True})
    assert snakemake(campaign).jobs == frozenset()
