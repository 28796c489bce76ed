"""Which sweeps share what they read."""

import numpy as np
import pytest

from tests.exchange_files import write_time_series
from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.commands.next_run import folded, make_plan
from tomopipe.reruns.parameters import parameter
from tomopipe.reruns.settle import Settled


@pytest.mark.parametrize(
    ("step", "own", "together"),
    [
        (20, [], []),  # they do not overlap
        (10, [], [[0, 1, 2, 3]]),
        (10, [2], [[0, 1]]),  # it has other rows, and separates those beside it
        (5, [0, 6], [[1, 2, 3, 4, 5]]),
        (15, [1], []),
    ],
)
def test_windows_that_overlap_and_have_the_same_options(tmp_path, monkeypatch, step, own, together):
    monkeypatch.chdir(tmp_path)
    write_time_series(tmp_path / "fast.h5", 10.0 * np.arange(50))
    names = [f"fast@t{number:04d}" for number in range(10)]
    data = {
        "campaign": {"scans": [{"glob": "*.h5", "turns": {"n_angles": 20, "step": step}}]},
        "overrides": [{"scans": [names[n] for n in own], "try_recon": {"row": 0.2}}] if own else [],
    }
    campaign = campaign_from_data(data, tmp_path)
    settled = Settled(campaign)
    found = {}
    for scan in campaign.scans:
        if shared := parameter(settled, "try_recon", scan, "shared"):
            spans = found.setdefault(shared["file"], ([], []))
            spans[0].append(scan)
            spans[1].extend(shared.get("windows", ()))
    assert [scans for scans, _ in found.values()] == [[names[n] for n in each] for each in together]
    rows = folded(make_plan(campaign, settled=settled).jobs)
    reading = {row.of: row.steps[0] for row in rows if "shared_rows" in row.steps}
    assert reading == {names[first]: "shared_rows" for first, *_ in together}
    for file, (scans, windows) in found.items():
        assert file == f"shared_rows/{scans[0]}.h5"
        assert windows == [campaign.scans[scan].view.input["window"] for scan in scans]
