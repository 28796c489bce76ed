"""Jobs that the next run is expected to execute; real runs are in tests/workflow/test_reruns.py."""

import json

import h5py
import pytest

from tests.phantoms import write_scan
from tests.unit.conftest import configure
from tomopipe.campaign.campaign import load_campaign
from tomopipe.campaign.files import Files
from tomopipe.reruns import sidecars
from tomopipe.reruns.reasons import MISSING, only_metadata_differ
from tomopipe.reruns.receipts import write_receipt
from tomopipe.reruns.settle import Settled
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Target
from tomopipe.storage.atomic import write_json

SIZE = {"n_rows": 4, "n_cols": 64, "n_angles": 31}


@pytest.fixture
def folder(tmp_path):
    write_scan(tmp_path / "raw" / "a_1.h5", **SIZE)
    write_scan(tmp_path / "raw" / "a_2.h5", **SIZE, n_frames=9)  # aborted
    (tmp_path / "raw" / "a_3.h5").write_text("not HDF5")
    configure(tmp_path, "export_star: {enabled: true}")
    return tmp_path


def expected(folder):
    return Settled(load_campaign(folder))


def jobs(folder):
    return {(job.rule, job.scan): job for job in expected(folder).jobs}


def test_only_scans_that_are_good_have_a_chain_and_volumes_wait_for_a_cor(folder):
    found = jobs(folder)
    assert {rule for rule, scan in found if scan == "a_1"} == {"try_recon", "predict_cor"}
    for rule in ("try_recon", "predict_cor"):
        job = found[rule, "a_1"]
        assert (job.reason, job.series) == (MISSING, "a")
    tables = {"inventory", "fix_cor", "resolve_cor", "export_star", "report"}
    assert {rule for rule, scan in found if not scan} == tables
    assert expected(folder).open_scans == {"a_1"}
    (folder / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_1\tauto\t32.00\t\n")
    assert {"full_recon", "export_stack"} <= {rule for rule, scan in jobs(folder) if scan}
    assert expected(folder).open_scans == set()


@pytest.mark.parametrize(("stated", "reason"), [("all", "rows all -> [1, 2]"), (None, "")])
def test_other_rows_of_the_volume_renew_a_verdict_on_a_tilted_axis(folder, stated, reason):
    """A prediction that does not say which rows it took into account stays."""
    configure(folder, "full_recon: {rows: [1, 2]}")
    found = expected(folder)
    files, wanted = found.campaign.files, found.target.of_predict_cor("a_1")
    content = {"made_from": wanted, "cor_px": 31.5} | ({"volume_rows": stated} if stated else {})
    write_json(content, files.prediction("a_1"))
    files.center("a_1").write_text("31.50\n")
    assert expected(folder).staleness.why("predict_cor", "a_1") == reason


@pytest.mark.parametrize("on_missing", ["block", "skip"])
def test_a_scan_that_gets_no_cor(folder, on_missing):
    """Its prediction failed for good, as recorded."""
    with (folder / "config.yaml").open("a") as config:
        config.write(f"resolve_cor: {{on_missing: {on_missing}}}\n")
    raw = (folder / "raw" / "a_1.h5").stat()
    failed = {"step": "try_recon", "reason": "zeros", "bytes": raw.st_size}
    write_json(
        failed | {"mtime_ns": raw.st_mtime_ns},
        Files(folder / "results").failure("try_recon", "a_1"),
    )
    found = expected(folder)
    assert found.without_cor == ["a_1"]
    assert ("no COR for a_1" in found.blocked) == (on_missing == "block")
    rules = {job.rule for job in found.jobs}
    after = {"export_star", "report"} if on_missing == "skip" else set()
    assert rules == {"inventory", "fix_cor", "resolve_cor"} | after


def sidecars_by_hand(folder, names, change):
    """Give scans CORs by hand, and sidecars to which `change(scan)` was added; return the last."""
    for name in names[1:]:
        write_scan(folder / "raw" / f"{name}.h5", **SIZE)
    rows = [f"{name}\tauto\t32.00\t\n" for name in names]
    (folder / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\n" + "".join(rows))
    target = expected(folder).target
    for scan, text in sidecars.contents(target, {}, target.cors).items():
        write_json(json.loads(text) | change(scan), folder / "raw" / f"{scan}.cor.json")
    return json.loads(text)


def test_changes_of_sidecars_name_their_scans(folder):
    scans = ("a_1", "a_4", "a_5")
    last = sidecars_by_hand(
        folder, scans, lambda scan: {"cor_px": 31.0} if scan == "a_5" else {"source": "ai"}
    )
    assert jobs(folder)["sidecar", ""].reason == (
        "before_px, source of 2 scans (a_1, a_4) changed; COR of a_5: 31.00 -> 32.00, by hand"
    )
    write_json(last | {"cor_px": [32.0]}, folder / "raw" / "a_5.cor.json")
    assert "COR of a_5: none -> 32.00, by hand" in jobs(folder)["sidecar", ""].reason


def test_of_many_changes_of_sidecars_the_others_are_counted(folder):
    names = [f"a_{n}" for n in range(1, 6)]
    sidecars_by_hand(folder, names, lambda scan: {"cor_px": 20.0 + int(scan[2:])})
    reason = jobs(folder)["sidecar", ""].reason
    assert reason.startswith("COR of a_1: 21.00 -> 32.00, by hand; COR of a_2: ")
    assert reason.endswith("; 2 more changes")


def test_sidecars_that_are_as_their_receipt_states_are_not_compared(folder, monkeypatch):
    scans, compared, plain = ("a_1", "b_1", "c_1"), set(), sidecars.why_written
    monkeypatch.setattr(sidecars, "why_written", lambda *of: compared.add(of[1]) or plain(*of))
    for name in scans[1:]:
        write_scan(folder / "raw" / f"{name}.h5", **SIZE)
    target, receipt = expected(folder).target, "results/made/sidecar/campaign.json"

    def put(*cors_px):
        target.cors = {
            scan: {"cor_px": cor_px, "source": "manual"}
            for scan, cor_px in zip(scans, cors_px, strict=True)
        }

    def due(*fixing):
        compared.clear()
        staleness = Staleness(Target(target.campaign, target.rows, target.cors))
        result = staleness.target.result("sidecar", "campaign")
        text, with_sidecar = sidecars.why(staleness, result, {}, predicting=(), fixing=fixing)
        assert len(with_sidecar) == text.count("a_1") + text.count("b_1") + text.count(MISSING)
        return text, compared

    put(32.0, 32.0, 32.0)
    for scan, text in sidecars.contents(target, {}, scans).items():
        write_json(json.loads(text), folder / "raw" / f"{scan}.cor.json")
    paths = target.outputs("sidecar")
    write_receipt(receipt, target.statement("sidecar"), paths, directory=folder)
    assert due() == ("", set())
    put(32.0, 31.0, 32.0)
    changed = "COR of b_1: 32.00 -> 31.00, by hand"
    assert due() == (changed, {"b_1"})
    written = sidecars.to_write(target, None)
    assert written == sidecars.to_write(target, ["b_1"])
    assert [*written] == [target.sidecar("b_1")]
    assert json.loads(written.popitem()[1]["content"])["cor_px"] == 31.0
    assert due("c") == (changed, {"b_1", "c_1"})
    write_json({"confidence": 0.5}, target.campaign.files.prediction("a_1"))
    assert due() == (f"confidence of a_1 changed; {changed}", {"a_1", "b_1"})
    (folder / "raw" / "c_1.cor.json").unlink()
    assert due() == (f"confidence of a_1 changed; {changed}; {MISSING}", {*scans})
    (folder / receipt).unlink()
    assert due()[1] == {*scans}


def test_a_volume_of_pixels_that_are_not_square_has_other_metadata_alone(folder):
    (folder / "scans.tsv").write_text("scan\tselect\tcor_px\tnote\na_1\tauto\t32.00\t\n")
    before = expected(folder).target
    with h5py.File(folder / "raw" / "a_1.h5", "a") as file:
        detector = file.require_group("measurement/instrument/detector")
        detector["x_pixel_size"], detector["y_pixel_size"] = "5 um", "10 um"
    after = expected(folder).target
    for step in ("try_recon", "full_recon"):
        old, new = (target.statement(step, "a_1") for target in (before, after))
        is_metadata = only_metadata_differ(old, new | {"raw": old["raw"]})
        assert is_metadata == (step == "full_recon")
