"""Packages of a site in a run: what is made again for them, and a fault of one correction."""

import json
import os
import sys

import h5py
import numpy as np
import pytest
import yaml

from tests.packages import forget, install_example, write_package
from tests.workflow.conftest import plan, snakemake
from tests.workflow.test_reruns import page
from tomopipe.volumes.volume_read import read_provenance

BREAKS = """
from tomopipe.config import SiteCorrection

def raises(projections, options, region):
    raise RuntimeError("no table of this camera")

BREAKS = SiteCorrection(raises)
"""
CHAIN = ("try_recon", "predict_cor", "full_recon", "export_stack")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example and a package that fails, for this process and for runs."""
    folders = [install_example(tmp_path), tmp_path / "other"]
    write_package(folders[1], "own", BREAKS, corrections={"breaks": "BREAKS"})
    for folder in folders:
        monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, folders)))
    forget()
    yield folders[0]
    forget_modules()


def forget_modules():
    sys.modules.pop("mybeamline", None)
    sys.modules.pop("own", None)
    forget()


def read_volume(path):
    with h5py.File(path) as file:
        return file["exchange/data"][()]


def jobs(*scans):
    return {f"{rule}:{scan}" for rule in CHAIN for scan in scans}


def test_a_correction_of_a_site_remakes_what_it_touches_and_fails_alone(campaign, installed):
    volume = campaign / "results" / "a_2_rec.h5"
    before = read_volume(volume)
    config = yaml.safe_load((campaign / "config.yaml").read_text())
    config["overrides"] = [
        {"scans": ["a_2"], "preprocess": {"linearity": {"loss": 1e-6}}},
        {"scans": ["b_1"], "preprocess": {"breaks": {}}},
    ]
    (campaign / "config.yaml").write_text(yaml.safe_dump(config))
    run = snakemake(campaign)
    assert jobs("a_2") <= run.jobs, run.text
    others = {job for job in run.jobs if ":" in job and job.split(":")[1] not in ("a_2", "b_1")}
    assert others <= {"fix_cor:a", "fix_cor:b"}

    stated = read_provenance(volume)
    assert stated["parameters"]["of_sites"]["linearity"]["options"] == {"loss": 1e-6}
    assert stated["versions"]["mybeamline"] == "1.0"
    # counts of 50 000 less 5 %: attenuation rises by about so much
    assert 0.01 < np.abs(read_volume(volume) - before).max() / np.ptp(before) < 0.2
    sweep = json.loads((campaign / "results" / "try_center" / "b_1" / "try.json").read_text())
    assert sweep["failed"] == "preprocess.breaks, {}, of own 2.0: RuntimeError: " \
        "no table of this camera"  # fmt: skip
    assert "loss of counts corrected (mybeamline 1.0)" in page(campaign)
    due = plan(campaign)[1]  # the volume of b_1 is tried again, as after any error
    assert {job for job in due if ":" in job} <= jobs("b_1")

    # a new version makes nothing again, a raised revision what the correction is in
    about = installed / "mybeamline-1.0.dist-info" / "METADATA"
    about.write_text(about.read_text().replace("Version: 1.0", "Version: 1.1"))
    forget_modules()
    assert plan(campaign)[1] == due
    module = installed / "mybeamline.py"
    module.write_text(module.read_text().replace('before="flats"', 'before="flats", revision=2'))
    forget_modules()
    new = {job for job in plan(campaign)[1] - due if ":" in job and "fix_cor" not in job}
    assert {"try_recon:a_2", "predict_cor:a_2"} <= new <= jobs("a_2")
