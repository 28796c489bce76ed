"""A file that raw files link to is replaced: the scan runs again, and nothing else."""

import os

import h5py

from tests.workflow.conftest import new_campaign, plan, snakemake
from tests.workflow.test_reruns import TAIL


def test_a_linked_file_put_in_the_place_of_another(tmp_path):
    campaign = new_campaign(tmp_path / "campaign", {"a_1": 48.5, "b_1": 45.0})
    target = campaign / "camera.h5"
    with h5py.File(campaign / "raw" / "a_1.h5", "r+") as file, h5py.File(target, "w") as camera:
        camera["frames"] = file["exchange/data"][()]
        del file["exchange/data"]
        file["exchange/data"] = h5py.ExternalLink("../camera.h5", "/frames")
    first = snakemake(campaign)
    assert first.status == 0, first.text
    assert plan(campaign) == (0, frozenset())
    times = target.stat()
    with h5py.File(target, "r+") as camera:
        camera["frames"][0, 0, 0] += 1  # of equal size
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns - 10**12))  # older, as a backup
    rules = ("try_recon", "predict_cor", "full_recon", "export_stack")
    jobs = {"inventory", *(f"{rule}:a_1" for rule in rules), "fix_cor:a", "resolve_cor", *TAIL}
    assert {"inventory", "try_recon:a_1", "export_stack:a_1"} <= plan(campaign)[1] <= jobs
    run = snakemake(campaign)
    assert run.status == 0, run.text
    assert run.jobs <= jobs
    # the COR came out as it was, and so did the tables
    assert {"inventory", *(f"{rule}:a_1" for rule in rules)} <= run.jobs
    assert plan(campaign) == (0, frozenset())
