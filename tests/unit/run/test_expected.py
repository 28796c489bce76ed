"""What a decision makes the next run redo; real runs are in tests/workflow/test_reruns.py."""

import pytest

from tests.review_campaign import make_campaign
from tomopipe.campaign.campaign import load_campaign
from tomopipe.run.expected import expected_jobs

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    return make_campaign(tmp_path)


def jobs(folder):
    return set(expected_jobs(load_campaign(folder)))


def test_a_cor_for_a_scan_without_one_makes_its_volume_and_what_hangs_on_it(folder):
    before = jobs(folder)
    with (folder / "scans.tsv").open("a") as table:
        table.write("wood_1\tauto\t509.5\t\t\n")
    added = {(step, "wood_1") for step in ("full_recon", "sidecar", "export_stack")}
    assert jobs(folder) - before == added
    assert before <= jobs(folder)


def test_nothing_is_expected_after_a_run_that_will_stop(folder):
    with (folder / "config.yaml").open("a") as config:
        config.write("resolve_cor: {on_missing: block}\n")
    rules = {rule for rule, _ in jobs(folder)}
    assert rules == {"inventory", "try_recon", "predict_cor", "fix_cor", "resolve_cor"}


def test_a_new_file_is_looked_at_and_one_that_is_no_scan_has_no_chain(folder):
    (folder / "raw" / "bone_011.h5").write_text("not HDF5")
    found = jobs(folder)
    assert ("inventory", "") in found
    assert not [job for job in found if job[1] == "bone_011"]
