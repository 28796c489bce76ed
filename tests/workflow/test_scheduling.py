"""Snakemake's main process has little to do while jobs run."""

import re

import pytest

from tests.workflow.conftest import CORS_PX, configure, snakemake, succeeds


def test_sweeps_ask_for_a_gpu_where_they_are_to_use_one(campaign):
    assert snakemake(campaign, "--dry-run", "--forcerun", "try_recon").text.count("gpu=1") == 0
    configure(campaign, "try_recon", device="cuda")
    assert not snakemake(campaign, "--dry-run").jobs  # slices are the same
    run = snakemake(campaign, "--dry-run", "--forcerun", "try_recon")
    assert run.text.count("gpu=1") == len(CORS_PX), run.text


@pytest.mark.plain
def test_looking_for_work_loads_no_numerics(campaign):
    """Each start of Snakemake parses the Snakefile, those on nodes, too."""
    run = succeeds(campaign, "--dry-run", environment={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = set(re.findall(r"^import time: .*\| +(\w+)$", run.text, flags=re.MULTILINE))
    assert "snakemake" in loaded
    assert not loaded & {"scipy", "numba", "h5py", "tifffile", "mrcfile", "pywt"}


def test_a_scan_has_few_files_beside_its_volume(campaign):
    names = [path.relative_to(campaign) for path in campaign.rglob("*") if path.is_file()]
    of_scan = {str(name) for name in names if "a_1" in str(name)}
    beside = of_scan - {"raw/a_1.h5", "results/a_1_rec.h5"}
    assert 12 < len(beside) <= 21, sorted(beside)
    # Snakemake's own records of results, which nothing here reads
    assert not [name for name in names if name.is_relative_to(".snakemake/metadata")]
