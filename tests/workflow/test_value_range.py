"""One grey range for all volumes of a campaign, frozen when the first volumes are made."""

import json
import os

from tests.phantoms import write_scan
from tests.workflow.conftest import SIZE, make_scan, plan, succeeds
from tomopipe.volumes.volume_read import open_volume

CONFIG = """\
campaign: {scans: [raw/*.h5]}
try_recon: {width_px: 5, step_px: 1}
predict_cor: {methods: [classical]}
export_star: {enabled: false}
full_recon: {dtype: uint16, value_range: campaign}
"""


def encoding(folder, scan):
    with open_volume(folder / f"results/{scan}_rec.h5") as volume:
        low, high = volume.attributes["min"], volume.attributes["max"]
        clipped = volume.attributes["clipped"] / volume.arrays[1].size
        return volume.encoding, low, high, clipped


def test_all_volumes_have_one_range_and_a_later_scan_remakes_none(tmp_path):
    folder = tmp_path / "campaign"
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG)
    for scan in ("a_1", "a_2"):
        make_scan(folder, scan, 31.0)
    run = succeeds(folder)
    assert {"full_recon:a_1", "full_recon:a_2"} <= run.jobs
    path = folder / "results/value_range.json"
    frozen = json.loads(path.read_text())
    low, high = frozen["value_range"]
    assert frozen["n_scans"] == 2
    before = {scan: encoding(folder, scan) for scan in ("a_1", "a_2")}
    for stored, least, most, clipped in before.values():
        assert stored.limits == (low, high)
        assert clipped < 1e-3
        assert most - least > 0.3 * (high - low)  # it is used
    assert plan(folder) == (0, frozenset())

    # noisier: its own range would be wider
    write_scan(folder / "raw/a_3.h5", cor_px=31.0, counts=300, seed=3, **SIZE)
    inode = os.stat(folder / "results/a_1_rec.h5").st_ino
    run = succeeds(folder)
    assert "full_recon:a_3" in run.jobs
    assert not run.jobs & {"full_recon:a_1", "full_recon:a_2"}
    assert json.loads(path.read_text()) == frozen
    assert os.stat(folder / "results/a_1_rec.h5").st_ino == inode
    assert encoding(folder, "a_3")[0] == before["a_1"][0]
    assert plan(folder) == (0, frozenset())

    path.unlink()  # to be measured anew, from all three
    assert {"full_recon:a_1", "full_recon:a_2", "full_recon:a_3"} <= plan(folder)[1]
    assert not path.exists()
