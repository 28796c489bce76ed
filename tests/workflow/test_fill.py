"""A COR that is filled from the same place in other series, on real runs."""

import json

import h5py
import numpy as np
import pytest

from tests.workflow.conftest import (
    configure,
    new_campaign,
    plan,
    snakemake,
    succeeds,
    table,
)
from tests.workflow.test_reruns import TAIL, changed, expect

HEIGHTS_PX = {"a_1": 45.0, "a_2": 50.0, "b_2": 50.0, "c_1": 45.4, "c_2": 50.2}  # not b_1


@pytest.fixture
def stacks(tmp_path):
    """Return a campaign of three stacks of two heights, with all CORs by hand but one."""
    campaign = new_campaign(tmp_path, HEIGHTS_PX | {"b_1": 45.0})
    configure(campaign, "predict_cor", methods=[])
    return campaign


def by_hand(campaign, **cors_px):
    table(campaign, *(f"{scan}\tauto\t{px}\t" for scan, px in (HEIGHTS_PX | cors_px).items()))


def cor_of(campaign, scan):
    return json.loads((campaign / "results/cor.json").read_text())[scan]


def test_cor_of_a_place_moves_with_those_of_other_series(stacks):
    by_hand(stacks)
    succeeds(stacks)
    assert cor_of(stacks, "b_1") == {"cor_px": 45.2, "source": "place"}
    # of the series compared, one alone has an estimated COR
    by_hand(stacks, a_1=44.0)
    follows = {"fix_cor:a", "fix_cor:b", "resolve_cor", *TAIL}
    expect(stacks, {*follows, *changed("a_1", "b_1")})
    assert cor_of(stacks, "b_1") == {"cor_px": 44.7, "source": "place"}
    by_hand(stacks, a_1=44.0, c_2=49.8)
    expect(stacks, {"fix_cor:b", "fix_cor:c", "resolve_cor", *changed("c_2"), *TAIL})
    # a series without estimates does not depend on others
    by_hand(stacks, a_1=44.0, c_2=49.8, b_1=45.0)
    expect(stacks, {"fix_cor:b", "resolve_cor", *changed("b_1"), *TAIL})
    by_hand(stacks, a_1=44.5, c_2=49.8, b_1=45.0)
    expect(stacks, {"fix_cor:a", "resolve_cor", *changed("a_1"), *TAIL})


def test_a_fill_waits_for_the_predictions_of_other_series(tmp_path):
    campaign = new_campaign(tmp_path, HEIGHTS_PX | {"b_1": 45.0})
    with h5py.File(campaign / "raw" / "b_1.h5", "r+") as file:
        data = file["exchange/data"]  # noise: no COR can be found in it
        data[...] = np.random.default_rng(0).normal(20000, 200, data.shape).astype(data.dtype)
    succeeds(campaign)
    before = cor_of(campaign, "b_1")
    assert before["source"] == "place"
    assert before["cor_px"] == pytest.approx(45.2, abs=0.3)
    (campaign / "results/try_center/a_1/prediction.json").unlink()
    status, planned = plan(campaign)
    assert (status, "full_recon:b_1" in planned) == (2, False)  # its COR may change
    run = succeeds(campaign)
    assert planned <= run.jobs
    assert run.jobs >= {"predict_cor:a_1", "fix_cor:a", "fix_cor:b"}
    assert "fix_cor:c" not in run.jobs
    assert snakemake(campaign).jobs == frozenset()
    assert cor_of(campaign, "b_1") == before
