"""What the page is told, and by way of which files."""

import json
import statistics
from dataclasses import replace

import anyio
import numpy as np
import pytest
import zarr
from zarr.buffer.cpu import Buffer

from tests.report_campaign import NASTY, write_json
from tests.review_campaign import (
    GRID_PX,
    browser,
    client_of,
    decide,
    make_campaign,
    sign_in,
    write_pictures,
)
from tests.unit.conftest import configure
from tomopipe.campaign.prediction_json import parse_prediction
from tomopipe.campaign.table import edit_table
from tomopipe.cor.collected_rows import read_rows, write_rows
from tomopipe.cor.cor_value import CorText
from tomopipe.cor.outliers import Member, fix_series
from tomopipe.cor.series_line import Line
from tomopipe.review.app import make_app
from tomopipe.review.security import Keys
from tomopipe.review.store import Store
from tomopipe.review.volume_view import file_below
from tomopipe.volumes.encoding import encoding_of
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path):
    return make_campaign(tmp_path)


@pytest.fixture
def client(folder):
    return client_of(folder)


def test_the_queue(client):
    found = client.get("/api/queue").json()
    assert found["campaign"] == "Beamtime"
    assert [entry["state"] for entry in found["scans"]][:2] == ["unresolved", "doubtful"]
    assert len(found["scans"]) == 13
    assert (found["fix_cor"]["max_delta_px"], found["fix_cor"]["protect_manual"]) == (50.0, True)
    assert found["csrf"] == client.headers["x-tomopipe-csrf"]
    sets = {name: sorted(states) for name, states in found["sets"].items()}
    assert sets == {
        "not_selected": ["skipped", "unselected"],
        "decided": ["manual", "skipped", "unselected"],
        "to_review": ["doubtful", "filled", "fixed", "unresolved"],
    }


def test_options_are_shown_as_a_change_before_they_are_written(client, folder):
    config, before = folder / "config.yaml", (folder / "config.yaml").read_text()
    wish = {"scan": "bone_001", "scope": "scan", "options": {"crop_x": [9, 90]}}
    shown = client.post("/api/options", json=wish).json()
    assert '+  - scans: ["bone_001"]\n+    full_recon: {crop_x: [9, 90]}' in shown["diff"]
    assert config.read_text() == before
    assert client.post("/api/options", json=wish | {"seen": "other"}).status_code == 422
    written = client.post("/api/options", json=wish | {"seen": shown["seen"]})
    assert written.json() == shown
    assert config.read_text() == before + "".join(
        line[1:] + "\n" for line in shown["diff"].splitlines()[4:] if line.startswith("+")
    )
    assert client.post("/api/options", json=wish | {"scope": "some"}).status_code == 400
    key = client.headers.pop("x-tomopipe-csrf")
    assert client.post("/api/options", json=wish).status_code == 403
    client.headers["x-tomopipe-csrf"] = key


def test_the_page_has_the_axis_of_the_report_for_each_series(folder):
    store = Store(folder, folder / "config.yaml")
    record = store.record(wait=True)
    model = Line(512.0, 0.1, 0.1)
    key = max(record.series, key=lambda each: len(each.scans)).key
    assert store.along(key)["name"] == store.line(key)["along"]["name"] == "index"
    # as of views of a file with a model over time: two minutes apart, then ten hours
    series = [
        replace(each, model=model, scans=tuple(
            replace(scan, row={"time_s": f"{1e9 + 120 * n + 36000 * (n > 1)}"})
            for n, scan in enumerate(each.scans)
        ))
        for each in record.series
    ]  # fmt: skip
    store.record = lambda **_: replace(record, series=tuple(series))
    along = store.along(key)
    assert along["name"] == "time / h"
    places = list(along["places"].values())
    assert places[:3] == pytest.approx([0, 120 / 3600, 240 / 3600 + 10])


def test_a_sweep_that_is_not_there_and_one_that_is_no_stack_are_named(client, folder):
    assert client.get("/api/sweeps").json() == {"sweeps": []}
    place = folder / "results/sweep/bone_001/full_recon.filter"
    place.mkdir(parents=True)
    (place / "sweep.tif").write_bytes(b"II*\0 of somebody else")
    (place / "sweep.json").write_text('{"keys": ["full_recon.filter"]}')
    (found,) = client.get("/api/sweeps").json()["sweeps"]
    assert (found["scan"], found["name"]) == ("bone_001", "full_recon.filter")
    for name, said in ((found["name"], "sweep.tif: expected a stack"), ("../x", "no sweep '../x'")):
        query = {"scan": "bone_001", "name": name, "number": "0"}
        answer = client.get("/api/sweep", params=query)
        assert answer.status_code == 422
        assert said in answer.json()["error"]


def test_a_scan(client):
    found = client.get("/api/scan", params={"scan": "bone_001"}).json()
    assert found["grid"]["cor_px"] == GRID_PX
    assert found["grid"]["step_px"] == 1.0
    assert found["grid"]["rows"] == [256, 40]
    assert found["grid"]["n_pairs"] == 1
    assert found["cor_px"] == 511.65
    assert [curve["method"] for curve in found["prediction"]["curves"]] == ["classical", "wedge"]
    assert all(len(c["cor_px"]) == len(c["score"]) == 101 for c in found["prediction"]["curves"])
    near = [row["scan"] for row in found["neighbours"]]
    assert near == ["bone_001", "bone_002", "bone_003", "bone_004"]


@pytest.mark.parametrize("broken", [3, {"score": 3}, {"score": {"wedge": "x"}}])
def test_the_kinds_of_evidence_are_told(folder, broken):
    path = folder / "results/try_center/bone_001/prediction.json"
    found = json.loads(path.read_text())
    for evidence in ({"cor_px": [1.0, 2.0], "score": {"wedge": [0.5, 3.0]}}, broken):
        path.write_text(json.dumps(found | {"evidence": evidence}))
        shown = client_of(folder).get("/api/scan?scan=bone_001").json()["prediction"]["evidence"]
        if evidence is not broken:
            (wedge,) = shown
            assert (wedge["method"], wedge["cor_px"], wedge["score"]) == ("wedge", [1, 2], [0.5, 3])
        assert all(curve["cor_px"] == [] for curve in shown if evidence is broken)


@pytest.mark.parametrize(
    ("deg", "error_deg", "shown"),
    [(-0.014, 0.013, ""), (-0.9, 0.31, ""), (-0.9, 0.29, "0.90 ± 0.29"), (0.05, None, "")],
)
def test_a_pitch_is_told_with_its_error_where_it_is_no_noise(folder, deg, error_deg, shown):
    path = folder / "results/try_center/bone_001/prediction.json"
    pitch = {"pitch": {"deg": deg, "error_deg": error_deg, "rim_px": 0.4}}
    path.write_text(json.dumps(json.loads(path.read_text()) | pitch))
    found = client_of(folder).get("/api/scan?scan=bone_001").json()["prediction"]
    assert (found["pitch_deg"], found["lacks_pitch"]) == (shown, False)


@pytest.mark.parametrize(
    ("px", "error_px", "shown"),
    [
        (-0.0101, 0.0021, ""),  # two decimals
        (0.14, 0.05, ""),
        (0.16, 0.05, "+0.16 ± 0.05"),
        (-1.204, 0.004, "-1.20 ± 0.01"),
        (1.2, None, ""),
    ],
)
def test_a_roll_is_told_with_its_error_where_it_is_no_noise(px, error_px, shown):
    found = {"roll_px_per_100_rows": px, "roll_error_px_per_100_rows": error_px}
    assert parse_prediction(found).roll_px_per_100_rows == shown


def test_unreadable_files_and_remarks_are_told(folder):
    place = folder / "results/try_center"
    (place / "bone_002" / "prediction.json").write_text("{")
    grid = json.loads((place / "bone_001" / "try.json").read_text())
    (place / "bone_001" / "try.json").write_text(json.dumps(grid | {"notes": ["a remark"]}))
    found = json.loads((place / "bone_001" / "prediction.json").read_text())
    text = json.dumps(found | {"warnings": ["4 of 121 projections are dark"]})
    (place / "bone_001" / "prediction.json").write_text(text)
    client = client_of(folder)
    (note,) = client.get("/api/queue").json()["notes"]
    assert note.startswith("results/try_center/bone_002/prediction.json: is damaged")
    assert client.get("/api/scan?scan=bone_001").json()["warnings"] == [
        "a remark", "4 of 121 projections are dark"
    ]  # fmt: skip


def test_pages_are_about_the_cor_that_is_shown_wherever_the_sweep_was(folder):
    client = client_of(folder)
    found = client.get("/api/scan?scan=bone_001").json()
    assert found["grid"]["swept"]
    assert found["grid"]["cor_px"] == GRID_PX
    text = (folder / "scans.tsv").read_text()
    (folder / "scans.tsv").write_text(text + "bone_001\tauto\t620.25\t\t\n")
    grid = client.get("/api/scan?scan=bone_001").json()["grid"]
    assert not grid["swept"]
    assert grid["cor_px"] == [615.25 + step for step in range(11)]


def test_a_prediction_shows_before_the_series_is_fixed(folder):
    for path in ("fix_cor", "cor.json"):
        (folder / "results" / path).rename(folder / path)
    found = client_of(folder).get("/api/scan?scan=bone_001").json()
    assert (found["known_px"], found["source"]) == (511.65, "auto")
    assert found["neighbours"][0]["after_px"] == 511.65
    none = client_of(folder).get("/api/scan?scan=wood_1").json()  # not accepted
    assert (none["known_px"], none["source"]) == (None, "")


def test_a_skipped_scan_says_so_instead_of_slices(client):
    states = {entry["scan"]: entry for entry in client.get("/api/queue").json()["scans"]}
    (name,) = [scan for scan, entry in states.items() if entry["state"] == "skipped"]
    found = client.get("/api/scan", params={"scan": name}).json()
    assert found["grid"] is None
    assert found["problem"].startswith(f"{name} is skipped and has no slices: ")
    assert states[name]["why"] in found["problem"]


def test_slices_narrower_than_those_of_a_half_acquisition_are_told(folder):
    """The sweep was as wide as the detector; at the COR of the table the volume is twice as wide.

    Of CORs beyond the sweep slices are as wide as the volume.
    """
    place = folder / "results/try_center/bone_001"
    rows = read_rows(place / "rows.h5")
    theta_rad = np.linspace(0, 2 * np.pi, len(rows.theta_rad), endpoint=False)
    write_rows(replace(rows, theta_rad=theta_rad), place / "rows.h5")
    grid = json.loads((place / "try.json").read_text())
    (place / "try.json").write_text(json.dumps(grid | {"cor_px": [95.0 + n for n in range(11)]}))
    table = (folder / "scans.tsv").read_text()

    def warnings(cor_px):
        (folder / "scans.tsv").write_text(f"{table}bone_001\tauto\t{cor_px}\t\t\n")
        return client_of(folder).get("/api/scan?scan=bone_001").json()["warnings"]

    assert "cut to 1024 columns, those of the volume have 2048" in warnings(100)[-1]
    assert not any("cut to" in text for text in warnings(150))
    configure(folder, "preprocess: {half_acquisition: no}")
    assert not any("cut to" in text for text in warnings(100))


def test_a_scan_without_pictures_says_why(client):
    found = client.get("/api/scan", params={"scan": "bone_006"}).json()
    assert found["grid"] is None
    assert "no try.json yet; `tomopipe run`" in found["problem"]
    failed = client.get("/api/scan", params={"scan": NASTY}).json()
    assert failed["failures"][0]["step"] == "full_recon"
    assert "out of memory" in failed["failures"][0]["log"]


@pytest.mark.parametrize("failed", [False, True])
def test_a_scan_of_known_cor_without_a_sweep_says_how_one_is_made(client, folder, failed):
    if failed:  # with what was there then
        write_json({"failed": "no angles"}, folder / "results/try_center/bone_007/try.json")
    found = client.get("/api/scan", params={"scan": "bone_007"}).json()
    assert found["grid"] is None
    assert "`tomopipe run --predict bone_007` makes one." in found["problem"]
    assert found["volume"]
    assert found["prediction"]["best_cor_px"] == 530.0  # of before


def test_a_scan_named_as_a_script_tag_is_a_text_in_json_alone(client):
    answer = client.get("/api/queue")
    assert answer.headers["content-type"] == "application/json"
    assert NASTY in [entry["scan"] for entry in answer.json()["scans"]]
    wrong = client.get("/api/scan", params={"scan": "<script>alert(1)</script>"})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/json")
    assert decide(client, {NASTY: "500"}).json()["rows"][NASTY]["saved"]


def test_a_file_name_that_is_no_text_is_one_refused_scan_of_the_queue(folder):
    rows = folder / "results/inventory.tsv"
    header, row, *others = rows.read_bytes().splitlines()
    cells = dict(zip(header.split(b"\t"), row.split(b"\t"), strict=True))
    cells |= {b"scan": b"gr\xfc\xdfe", b"path": b"raw/gr\xfc\xdfe.h5", b"keep": b"false"}
    rows.write_bytes(b"\n".join([header, row, *others, b"\t".join(cells.values()), b""]))
    answer = client_of(folder).get("/api/queue")
    assert [entry["refused"] for entry in answer.json()["scans"]].count(True) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("page?scan=bone_001&page=11", "from 0 to 10"),
        ("page?scan=bone_001&page=-1", "whole number"),
        ("slice?scan=bone_001&cor=nan", "such as 1024.50"),
        ("slice?scan=bone_001&cor=1024", "off the detector"),
        ("slice?scan=bone_001&cor=512&row=7", "expected a row below 2"),
        ("overlay?scan=bone_001&cor=512&pair=3", "expected a pair below 1"),
        ("strip?scan=bone_001&cor=512&step=0", "above 0"),
        ("trial?series=bone&max_delta_px=wide", "expected a number"),
        ("trial?series=bone&max_delta_px=0", "more than 0"),
        ("plane?scan=wood_1&plane=zz&factor=1", "expected a plane xy, xz or yz"),
        ("plane?scan=wood_1&plane=xy&factor=3", "at a factor of 1"),
        ("plane?scan=wood_1&plane=xy&factor=1&at=21", "beyond the volume"),
        ("plane?scan=wood_1&plane=xy&factor=1&first=40&last=50", "has no rows"),
        ("plane?scan=nobody", "no scan nobody in"),
    ],
)
def test_what_makes_no_sense_is_refused(served, path, message):
    answer = served[0].get(f"/api/{path}")
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_pictures_are_numbers_with_their_meaning_or_png(client):
    for path in (
        "page?page=3",
        "slice?cor=512.25&row=1",
        "difference?cor=512.25",
        "sinogram?row=1",
    ):
        answer = client.get(f"/api/{path}&scan=bone_001")
        facts = json.loads(answer.headers["x-grey"])
        assert len(answer.content) == facts["n_y"] * facts["n_x"] * facts["bits"] // 8
        assert facts["low"] <= facts["usual"][0] < facts["usual"][1] <= facts["high"]
    strip = client.get("/api/strip?scan=bone_001&cor=512.25&step=0.5&y=300&x=700")
    assert json.loads(strip.headers["x-grey"])["cor_px"][2:5] == [511.75, 512.25, 512.75]
    for path in ("thumbnail", "overlay"):
        answer = client.get(f"/api/{path}?scan=bone_001&cor=512.25")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content.startswith(b"\x89PNG")


def test_a_sweep_without_an_entry_is_named_with_its_remedy(client, folder):
    path = folder / "results/try_center/bone_001/try.json"
    grid = json.loads(path.read_text())
    del grid["row"]
    path.write_text(json.dumps(grid))
    assert client.get("/api/scan?scan=bone_001").json()["problem"] == (
        "bone_001: try.json has no 'row'. `tomopipe run --predict bone_001` makes its sweep again."
    )


@pytest.mark.parametrize("cors", [[[], 508.0], None])
def test_a_damaged_sweep_costs_the_slices_of_its_scan_and_no_error_of_the_server(folder, cors):
    path = folder / "results/try_center/bone_001/try.json"
    grid = json.loads(path.read_text())
    path.write_text(json.dumps(grid | {"window": [float("nan"), 1]}))
    client = client_of(folder)
    for address in ("page?scan=bone_001&page=0", "slice?scan=bone_001&cor=511&row=0"):
        assert client.get(f"/api/{address}").status_code == 200
    path.write_text(json.dumps(grid | {"cor_px": cors}))
    view = client.get("/api/scan?scan=bone_001").json()
    assert "try.json is damaged (" in view["problem"]
    assert "`tomopipe run --predict bone_001` makes its sweep again." in view["problem"]


def set_predicted(folder, values_px):
    for name, cor_px in values_px.items():
        place = folder / "results/try_center" / name
        prediction = json.loads((place / "prediction.json").read_text())
        (place / "prediction.json").write_text(json.dumps(prediction | {"cor_px": cor_px}))
        (place / "center_of_rotation.txt").write_text(f"{cor_px:.2f}")


def test_a_trial_is_what_the_rules_say_and_writes_nothing(client, folder):
    values_px = dict(zip((f"bone_00{i}" for i in range(1, 7)), (512, 512, 512, 513, 513, 535)))  # noqa: B905
    set_predicted(folder, values_px)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(f"{config}\nfix_cor: {{fill: series}}\n")
    (folder / "scans.tsv").write_text("scan\tselect\tcor_px\nbone_007\tauto\t560\nbone_010\tno\t\n")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    small = "the smallest limit, as 5 MAD of the series is less"
    for limit_px, protect, in_use in (
        *((50, True, (10, small)), (12, True, (10, small)), (12, False, (10, small))),
        (3, True, (3, "max_delta_px")),
    ):
        query = {"series": "bone", "max_delta_px": limit_px, "protect_manual": str(protect).lower()}
        found = client.get("/api/trial", params=query).json()
        rows = found["rows"]
        assert (found["limit_px"], found["limit_from"]) == in_use
        assert found["median_px"] == statistics.median((512, 512, 512, 513, 513, 535, 560))
        members = [
            Member(name, int(name[-1]), 1024, predicted_px=float(px))
            for name, px in values_px.items()
        ]
        members += [Member("bone_007", 7, 1024, manual=CorText("560")), Member("bone_008", 8, 1024)]
        expected = fix_series(members, max_delta_px=limit_px, protect_manual=protect)
        assert [r["after_px"] for r in rows] == [round(f.after_px, 2) for f in expected]
        assert [r["source"] for r in rows] == [f.source for f in expected]
        assert [r["changes"] for r in rows] == [r["after_px"] != r["now_px"] for r in rows]
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_limit_of_a_scattered_series_is_named_so(client, folder):
    set_predicted(folder, {f"bone_00{i}": 500 + 4 * i for i in range(1, 7)})
    query = {"series": "bone", "max_delta_px": 50, "protect_manual": "true"}
    found = client.get("/api/trial", params=query).json()
    # 504, 508 ... 524 and 513.65: median 513.65, distances 9.65, 5.65, 1.65, 2.35, 6.35, 10.35, 0
    assert (found["limit_px"], found["limit_from"]) == (5 * 5.65, "5 MAD of the series")


def test_a_trial_heeds_a_decision_of_a_moment_ago(client, folder):
    decide(client, {"bone_002": "600"})
    query = {"series": "bone", "max_delta_px": 10, "protect_manual": "true"}
    rows = {row["scan"]: row for row in client.get("/api/trial", params=query).json()["rows"]}
    assert (rows["bone_002"]["after_px"], rows["bone_002"]["source"]) == (600.0, "manual")


def test_an_unknown_series_has_no_rows(client):
    answer = client.get("/api/trial", params={"series": "../x", "max_delta_px": 5})
    assert answer.json() == {
        "rows": [],
        "along": {"name": "index", "places": {}},
        "median_px": None,
        "model": None,
        "limit_px": None,
        "limit_from": "",
    }
    assert client.get("/api/series", params={"series": "../x"}).json() == {"scans": []}


def test_the_page_learns_of_changes(client, folder):
    first = client.get("/api/changes").json()
    (folder / "scans.tsv").write_text("scan\tcor_px\nbone_001\t512\n")
    second = client.get("/api/changes").json()
    assert first["table_sha256"] != second["table_sha256"]
    assert first["read"] == second["read"]


def test_results_of_a_run_are_read_again(folder):
    store = Store(folder, folder / "config.yaml")
    assert store.scan("bone_001").source == "auto"
    number = store.read_number
    store.read()
    assert store.read_number == number  # nothing new
    cor = json.loads((folder / "results/cor.json").read_text())
    cor["bone_001"] = {"cor_px": 512.0, "source": "manual"}
    (folder / "results/cor.json").write_text(json.dumps(cor))
    store.read()
    assert store.scan("bone_001").source == "manual"
    assert store.read_number == number + 1
    (folder / "config.yaml").write_text("campaign: {scan: [raw/*.h5]}\n")
    store.read()
    assert (store.read_number, "did you mean scans" in store.problem) == (number + 2, True)


def test_the_plan_is_of_the_table_as_it_is_now(client, folder):
    found = client.get("/api/plan").json()
    assert "inventory" in {job["rule"] for job in found["jobs"]}
    assert found["rows"][-1]["of"] == "campaign"
    (folder / "scans.tsv").write_text("scan\tCOR_PX\nwood_1\t509.5\n")
    answer = client.get("/api/plan")
    assert answer.status_code == 422
    assert "did you mean cor_px" in answer.json()["error"]


def test_a_person_decides_between_measured_used_and_on_the_line_until_it_is_done(client, folder):
    for name, cor_px in (("bone_005", 513.25), ("bone_006", 513.45)):
        write_pictures(folder, name, cor_px)

    def candidates(name):
        found = client.get(f"/api/scan?scan={name}").json()["candidates"]
        return {tuple(one["names"]): (one["cor_px"], one["sources"]) for one in found}

    assert candidates("bone_001") == {}  # nothing speaks against it
    (equal,) = candidates("bone_005")  # doubtful, and on the line
    assert equal == ("measured", "used", "line")
    found = candidates("bone_006")
    measured, used, line = found["measured",], found["used",], found["line",]
    assert measured == (548.5, [["classical", "confidence 0.71"]])
    assert used == (513.45, [["outlier", "bone_005, bone_007"]])
    assert line[0] == pytest.approx(511.25 + 0.4 * 6, abs=0.02)
    assert line[1][0][0] == "5 scans"
    decide(client, {"bone_006": "513.6"})
    assert candidates("bone_006") == {}


def test_a_cor_from_the_line_of_the_series_is_its_only_line(folder):
    write_pictures(folder, "bone_006", 513.45)
    cor = json.loads((folder / "results/cor.json").read_text())
    cor["bone_006"] |= {"cor_px": 513.45, "source": "line"}
    (folder / "results/cor.json").write_text(json.dumps(cor))
    client = client_of(folder)
    candidates = client.get("/api/scan?scan=bone_006").json()["candidates"]
    (of_line,) = [one for one in candidates if "line" in one["names"]]
    assert (of_line["names"], of_line["cor_px"]) == (["used", "line"], 513.45)
    assert [source for source, _ in of_line["sources"]] == ["line"]
    series = client.get("/api/line?series=bone").json()
    assert series["on_line"]["bone_006"] == 513.45
    assert series["on_line"]["bone_008"] == pytest.approx(511.25 + 0.4 * 8, abs=0.02)


def test_the_line_of_views_of_a_file_is_their_model_over_time(folder, monkeypatch):
    """0.8 px a view in the CORs as predicted now, 0.4 in those of the last run."""
    set_predicted(folder, {f"bone_00{n}": 500 + 0.8 * n for n in range(1, 5)})
    monkeypatch.setattr("tomopipe.review.store.file_over_time", lambda *_: "bone.nx")
    config = folder / "config.yaml"
    config.write_text(config.read_text() + "fix_cor: {over_time: line}\n")
    client = client_of(folder)
    series = client.get("/api/line?series=bone").json()
    trial = client.get("/api/trial?series=bone&max_delta_px=50&protect_manual=true").json()
    assert series["line"] | {"name": series["model"]} == trial["model"]
    assert series["model"] == "line over time"
    on_line = series["on_line"]["bone_002"] - series["on_line"]["bone_001"]
    assert on_line == pytest.approx(trial["model"]["slope_px"])


def test_the_line_is_that_of_scans_as_wide_as_the_one_shown(folder):
    inventory = folder / "results/inventory.tsv"
    rows = inventory.read_text()
    (row,) = [line for line in rows.splitlines() if line.startswith("bone_001\t")]
    write_pictures(folder, "bone_006", 513.45)

    def n_scans():
        found = client_of(folder).get("/api/scan?scan=bone_006").json()["candidates"]
        return {one["sources"][0][0] for one in found if one["names"] == ["line"]}

    assert n_scans() == {"5 scans"}
    inventory.write_text(rows.replace(row, row.replace("\t1024\t", "\t768\t")))
    assert n_scans() == {"4 scans"}


def test_many_decisions_are_one_write_and_rows_that_changed_are_left(client, folder):
    cors_px = {"bone_006": "513.65", "bone_007": "500", "bone_008": "513.65"}
    answer = decide(client, cors_px, stamp=False).json()["rows"]
    assert [decision["saved"] for decision in answer.values()] == [True, False, True]
    assert answer["bone_007"]["cells"]["cor_px"] == "513.65"  # by hand meanwhile
    table = (folder / "scans.tsv").read_text()
    assert table.startswith("# of the beamtime\n")
    assert [line.split("\t")[:3] for line in table.splitlines()[-2:]] == [
        ["bone_006", "auto", "513.65"], ["bone_008", "auto", "513.65"]
    ]  # fmt: skip


def test_a_decision_goes_into_the_table_that_the_configuration_names_now(client, folder):
    config = folder / "config.yaml"
    config.write_text("campaign: {scans: [raw/*.h5], table: new.tsv}\n")
    (folder / "new.tsv").write_text("scan\tcor_px\nbone_002\t500\n")
    before = (folder / "scans.tsv").read_text()
    cors_px = {"bone_001": "512", "bone_002": "512"}
    answer = decide(client, cors_px).json()["rows"]
    assert [decision["saved"] for decision in answer.values()] == [True, False]
    assert "bone_001\t512.00" in (folder / "new.tsv").read_text()
    assert (folder / "scans.tsv").read_text() == before
    config.write_text("campaign: {scan: []}")
    answer = decide(client, cors_px)
    assert (answer.status_code, "config.yaml" in answer.json()["error"]) == (422, True)


def test_one_wrong_decision_of_many_writes_none(client, folder):
    before = (folder / "scans.tsv").read_text()
    answer = decide(client, {"bone_005": "x", "bone_006": "512", "bone_008": "4000"})
    error = answer.json()["error"]
    assert answer.status_code == 422
    assert error.startswith("bone_005: expected a COR with a decimal point")
    assert "got 'x'. bone_008: COR 4000.00 is off the detector" in error
    assert error.endswith("the first being 0. None of the 3 decisions was written.")
    answer = decide(client, {f"bone_00{number}": "x" for number in range(1, 6)})
    assert answer.json()["error"].endswith("2 more errors. None of the 5 decisions was written.")
    assert (folder / "scans.tsv").read_text() == before


def test_the_last_act_of_the_page_is_taken_back_also_by_a_later_server(client, folder):
    before = (folder / "scans.tsv").read_text()
    assert client.get("/api/undo").json() == {"act": "", "rows": []}
    decide(client, {"bone_006": "512", "bone_008": "512"})
    edit_table(folder / "scans.tsv", {"bone_006": {"note": "Bob"}, "bone_008": {"cor_px": "9"}})
    later = client_of(folder)
    undo = later.get("/api/undo").json()
    assert undo["rows"] == [
        {"scan": scan, "cells": {"cor_px": ""}, "seen": {"cor_px": "512.00"}}
        for scan in ("bone_006", "bone_008")
    ]
    assert later.get("/api/undo", params={"skip": undo["act"]}).json()["rows"] == []
    rows = [row | {"undoes": undo["act"]} for row in undo["rows"]]
    answer = later.post("/api/decide", json={"decisions": rows}).json()["rows"]
    assert [row["saved"] for row in answer.values()] == [True, False]  # one has changed since
    after = "bone_006\tauto\t\tBob\t\nbone_008\tauto\t9\t\t\n"
    assert (folder / "scans.tsv").read_text() == before + after
    assert [row["scan"] for row in later.get("/api/undo").json()["rows"]] == ["bone_008"]
    entries = later.get("/api/scan?scan=bone_006").json()["history"]
    cells = [(entry["before"], entry["after"], entry["undoes"]) for entry in entries]
    assert cells == [("512.00", "", undo["act"]), ("", "512.00", "")]


def test_a_history_that_cannot_be_written_or_read_stops_nothing_and_is_told(client, folder):
    (folder / "scans.history.tsv").mkdir()
    answer = decide(client, {"bone_006": "512"}).json()
    assert answer["rows"]["bone_006"]["saved"]
    assert "scans.history.tsv: cannot be written (Is a directory)" in answer["problem"]
    found = client.get("/api/scan?scan=bone_006").json()
    assert "scans.history.tsv: cannot be read (Is a directory)" in found["warnings"][-1]
    assert client.get("/api/undo").status_code == 422


def test_a_browser_that_goes_away_in_the_middle_of_a_decision_is_told_once(folder):
    messages = []
    keys = Keys()
    app = make_app(Store(folder, folder / "config.yaml"), keys, tell=messages.append)
    client = sign_in(app, keys)
    before = (folder / "scans.tsv").read_text()
    parts = [
        {"type": "http.request", "body": b'{"decisions": [{"scan"', "more_body": True},
        {"type": "http.disconnect"},
    ]
    headers = {name.lower(): value for name, value in client.headers.items()} | {
        "host": "localhost:8765", "content-length": "90",
        "cookie": f"{keys.cookie}={client.cookies[keys.cookie]}",
    }  # fmt: skip
    scope = {
        "type": "http", "method": "POST", "path": "/api/decide", "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive():
        return parts.pop(0)

    async def send(_):
        pass

    anyio.run(app, scope, receive, send)
    assert messages == ["A browser disconnected during /api/decide; nothing was written."]
    assert (folder / "scans.tsv").read_text() == before


DATA = np.random.default_rng(0).normal(1, 0.2, (21, 40, 52)).astype(np.float32)
PAGE = "https://viewer.example"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A signed-in browser, one without anything, and the server's keys; wood_1 has volumes."""
    folder = make_campaign(tmp_path_factory.mktemp("campaign"))
    about = {"voxel_size_um": 1.5, "units": "1/cm"}
    for name, output_format in (("wood_1_rec.h5", "h5"), ("wood_1_converted.zarr", "zarr")):
        path = folder / "results" / name
        path.unlink(missing_ok=True)
        with new_volume(
            path, DATA.shape, output_format=output_format, attributes=about,
            encoding=encoding_of("uint16", (0, 2)),
        ) as put:  # fmt: skip
            put(0, DATA)
    keys = Keys()
    app = make_app(Store(folder, folder / "config.yaml"), keys, allow_origin=PAGE)
    return sign_in(app, keys), browser(app), keys


def plane(client, **query):
    answer = client.get("/api/plane", params={"scan": "wood_1", **query})
    assert answer.status_code == 200, answer.text
    facts = json.loads(answer.headers["x-grey"])
    stored = np.frombuffer(answer.content, "<u2").reshape(facts["n_y"], facts["n_x"])
    return facts["low"] + stored * (facts["high"] - facts["low"]) / 65535


def test_the_page_gets_parts_of_planes_in_one_range(served):
    client, _, _ = served
    facts = client.get("/api/volume", params={"scan": "wood_1"}).json()
    assert facts["shape"] == [21, 40, 52]
    assert facts["levels"] == {"1": [21, 40, 52]}
    assert facts["voxel_size_um"] == 1.5
    found = plane(client, plane="xz", at=9, factor=1, first=3, last=8)
    np.testing.assert_allclose(found, DATA[3:8, 9], atol=1e-4)


def test_the_address_of_a_volume_in_zarr_2_gives_its_files(folder):
    for name, output_format in (("wood_1_rec.h5", "h5"), ("wood_1_converted.zarr", "zarr2")):
        path = folder / "results" / name
        path.unlink(missing_ok=True)
        with new_volume(path, DATA.shape, output_format=output_format) as put:
            put(0, DATA)
    client = client_of(folder)
    address = client.get("/api/volume", params={"scan": "wood_1"}).json()["address"]
    assert client.get(f"/{address}.zattrs").json()["multiscales"][0]["version"] == "0.4"
    assert client.get(f"/{address}0/.zarray").json()["shape"] == [21, 40, 52]
    chunk = np.frombuffer(client.get(f"/{address}0/0/0/0").content, "<f4")
    np.testing.assert_array_equal(chunk.reshape(16, 40, 52), DATA[:16])


def test_a_large_volume_is_shown_from_its_means(folder):
    path = folder / "results" / "wood_1_rec.h5"
    path.unlink(missing_ok=True)
    values = np.broadcast_to(np.arange(512, dtype=np.float32), (128, 512, 512))
    with new_volume(path, values.shape, encoding=encoding_of("uint16", (0, 512))) as put:
        put(0, values)
    client = client_of(folder)
    levels = client.get("/api/volume", params={"scan": "wood_1"}).json()["levels"]
    assert levels == {"1": [128, 512, 512], "4": [32, 128, 128], "8": [16, 64, 64]}
    found = plane(client, plane="yz", at=9, factor=4, first=0, last=99)
    assert found == pytest.approx(9.5, abs=0.01)


def test_zarr_is_read_with_the_token_alone_and_by_ranges(served):
    client, stranger, keys = served
    facts = client.get("/api/volume", params={"scan": "wood_1"}).json()
    place = f"/{facts['address']}"
    assert ".zarr" in place  # without it napari takes no address
    assert stranger.get(f"{place}0/zarr.json").json()["shape"] == [21, 40, 52]
    tail = stranger.get(f"{place}0/c/0/0/0", headers={"range": "bytes=-20"})
    assert tail.status_code == 206
    assert len(tail.content) == 20
    assert stranger.get(f"{place}0/c/9/9/9").status_code == 404
    parts = {
        name: Buffer.from_bytes(stranger.get(f"{place}0/{name}").content)
        for name in ("zarr.json", "c/0/0/0", "c/1/0/0")
    }
    store = zarr.storage.MemoryStore(parts)
    found = 2 / 65535 * zarr.open_array(store, mode="r")[:]
    np.testing.assert_allclose(found, DATA, atol=2e-5)
    for wrong in (place.replace(keys.data_token, "x"), place.replace(keys.data_token, "")):
        assert stranger.get(f"{wrong}zarr.json").status_code == 403
    assert stranger.get("/api/volume", params={"scan": "wood_1"}).status_code == 403


@pytest.mark.parametrize(
    "below", ["../../config.yaml", "%2e%2e/%2e%2e/config.yaml", "0/%2e%2e/zarr.json", ""]
)
def test_zarr_gives_no_other_file(served, below):
    _, stranger, keys = served
    answer = stranger.get(f"/zarr/{keys.data_token}/wood_1.zarr/{below}")
    assert answer.status_code in (403, 404)


def test_a_link_leads_nowhere_outside(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "x.zarr/link").symlink_to(tmp_path / "secret")
    (tmp_path / "x.zarr/zarr.json").write_text("{}")
    assert file_below(tmp_path / "x.zarr", "link") is None
    assert file_below(tmp_path / "x.zarr", "zarr.json") == tmp_path / "x.zarr/zarr.json"


def test_one_other_page_may_read_volumes_and_nothing_else(served):
    _, stranger, keys = served
    place = f"/zarr/{keys.data_token}/wood_1.zarr/zarr.json"
    answer = stranger.get(place, headers={"origin": PAGE, "sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    asked = stranger.options(place, headers={"origin": PAGE})
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-headers"] == "range"
    other = stranger.get(place, headers={"origin": "https://other.example"})
    assert other.status_code == 403
    assert "access-control-allow-origin" not in other.headers
    assert stranger.get("/api/queue", headers={"origin": PAGE}).status_code == 403
    assert stranger.post(place, headers={"origin": PAGE}).status_code == 403
    assert stranger.get(place, headers={"host": "evil.example"}).status_code == 403
