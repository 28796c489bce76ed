"""The binning of RELION's set in real runs."""

import json

from tests.workflow.conftest import snakemake

META = "results/relion/stacks/{}.json"


def test_one_binning_is_decided_and_handed_to_later_stacks(campaign):
    path = campaign / "results" / "relion" / "binning.json"
    stated = json.loads(path.read_text())
    assert (stated["binning"], stated["scans"]) == (1, 5)
    # as if the scans of the first run had needed more
    path.write_text(json.dumps(stated | {"binning": 2}))
    (campaign / META.format("a_1")).with_suffix(".mrcs").unlink()
    run = snakemake(campaign)
    assert run.status == 0, run.text
    assert {job for job in run.jobs if job.startswith("export")} == {
        "export_stack:a_1",
        "export_star",
    }
    binnings = {
        scan: json.loads((campaign / META.format(scan)).read_text())["binning"]
        for scan in ("a_1", "a_2")
    }
    assert binnings == {"a_1": 2, "a_2": 1}
    text = (campaign / "results" / "relion" / "tomograms.star").read_text()
    assert text.count("px20000A") == 1
    log = campaign / "logs" / "export_star" / "campaign.log"
    assert "2 optics groups" in log.read_text()
