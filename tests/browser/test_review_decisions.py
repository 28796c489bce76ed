"""The review page: look, decide, run again, see the new state."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import TIMEOUT_MS, Server, go_to, handled, hold, look, route, row
from tests.report_campaign import NASTY, Made
from tests.review_campaign import make_campaign, write_pictures
from tests.rights import HEEDING
from tests.workflow.conftest import configure, failing, job_names, new_campaign, succeeds
from tomopipe.campaign.table import edit_table
from tomopipe.review.queue import read_cells

pytestmark = pytest.mark.browser


@pytest.fixture
def page(folder, serve, visit):
    return visit(serve(folder))


def test_a_campaign_that_cannot_be_written_says_so_when_it_opens(folder, serve, visit, request):
    request.addfinalizer(lambda: folder.chmod(0o755))
    folder.chmod(0o555)
    page = visit(serve(folder, before=HEEDING))
    banner, table = page.locator("#connection"), folder / "scans.tsv"
    why = f"Nothing can be accepted: {folder}: cannot be written; for {table}: "
    expect(banner).to_contain_text(f"{why}chmod u+rwX {folder}")
    expect(banner.locator("code")).to_have_text(f"chmod u+rwX {folder}")
    expect(page.locator("#retry")).to_be_hidden()
    expect(page.locator("#accept")).to_be_disabled()
    page.wait_for_selector("#stage[data-cor]")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text(why)
    folder.chmod(0o755)
    expect(page.locator("#accept")).to_be_enabled()  # by the next look, as all that follows
    expect(banner).to_be_hidden()
    table.touch()
    table.chmod(0o444)
    expect(banner).to_contain_text(f"Nothing can be accepted: {table}: is write-protected")


def test_a_broken_table_is_named_until_it_is_mended(folder, page):
    table, banner = folder / "scans.tsv", page.locator("#connection")
    before = table.read_text()
    table.write_text("scan select\n")
    page.reload()
    expect(banner).to_contain_text(f"{table}: expected a header line")
    table.write_text(before)
    expect(banner).to_be_hidden()


def test_look_decide_run_again_see(tmp_path, serve, visit):
    folder = new_campaign(tmp_path / "campaign", {"a_1": 48.5, "a_2": 49.0, "a_3": 49.5})
    configure(folder, "export_star", enabled=False)
    configure(folder, "report", enabled=False)
    succeeds(folder)
    page = visit(serve(folder))
    assert "token" not in page.url
    go_to(page, "a_2")
    page.wait_for_selector("#stage[data-cor]")

    start_px = float(page.locator("#cor").input_value())
    assert abs(start_px - 49.0) < 0.5
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    handled(page)
    assert 2.0 <= float(page.locator("#cor").input_value()) - start_px <= 3.0

    page.keyboard.press("]")  # finer: half of the sweep's step
    page.keyboard.press("ArrowLeft")
    handled(page)
    wanted_px = float(page.locator("#cor").input_value())
    expect(page.locator("#stage")).to_have_attribute("data-cor", f"{wanted_px:.2f}")
    page.keyboard.press("o")
    page.keyboard.press("t")

    page.keyboard.type("50.25")
    page.keyboard.press("Enter")
    expect(page.locator("#facts h2")).to_have_text("a_3")  # the next in the queue
    assert read_cells(folder / "scans.tsv")["a_2"]["cor_px"] == "50.25"
    expect(row(page, "a_2")).to_contain_text("50.25 ✎")
    page.keyboard.press("u")
    expect(page.locator("#facts h2")).to_have_text("a_2")
    assert read_cells(folder / "scans.tsv")["a_2"]["cor_px"] == ""
    page.keyboard.type("50.25")
    page.keyboard.press("Enter")
    expect(page.locator("#next")).to_contain_text("Next run: 1 volume to make, about ")
    expect(row(page, "a_2")).to_contain_text("50.25 ✎")

    page.get_by_role("button", name="Next run").click()
    expect(page.locator("#plan-state")).to_contain_text("1 full_recon")
    expect(page.locator("#plan-body th")).to_have_text(["scan", "what runs", "why"])
    again = succeeds(folder)
    assert [job for job in job_names(again.text) if job.startswith("full_recon")] == [
        "full_recon:a_2"
    ]
    # the plan is worked out again by itself
    expect(page.locator("#plan-state")).to_have_text("Nothing to do.", timeout=5 * TIMEOUT_MS)
    # the page looks by itself, without being loaded again
    expect(row(page, "a_2")).not_to_contain_text("✎", timeout=TIMEOUT_MS)
    expect(row(page, "a_2").locator(".dot")).to_have_attribute("data-state", "manual")
    page.get_by_role("button", name="Series").click()
    expect(page.locator("#series-plot g.point .st-manual")).to_have_count(1)


def test_the_progress_of_a_run_in_a_terminal_is_shown(tmp_path, serve, visit):
    folder = new_campaign(tmp_path / "campaign", {"a_1": 48.5})
    slow = os.environ | failing(tmp_path, "try_recon", "a_1", "time.sleep(600)")
    page = visit(serve(folder))
    run = [sys.executable, "-m", "tomopipe", "run", str(folder)]
    with subprocess.Popen(run, env=slow, stdout=subprocess.DEVNULL) as process:
        try:
            expect(page.locator("#live")).to_have_text("1 job running", timeout=2 * TIMEOUT_MS)
            page.get_by_role("button", name="Jobs").click()
            expect(page.get_by_label("inventory: 1 of 1")).to_be_visible()
            expect(page.get_by_label("try_recon: 0 of 1")).to_be_visible()
            expect(page.get_by_label("full_recon: 0 of 1")).to_be_visible()
            expect(page.locator("#jobs")).to_contain_text(" so far, ")
            expect(page.locator("#jobs details")).to_contain_text("running  try_recon  a_1")
            page.locator("#jobs summary").click()
            page.evaluate("heading = document.querySelector('#jobs h2')")
            page.get_by_role("button", name="Jobs").click()
            page.wait_for_function("() => !heading.isConnected")
            expect(page.locator("#jobs details")).to_have_attribute("open", "")
        finally:
            process.send_signal(signal.SIGINT)
    expect(page.locator("#live")).to_have_text("stopped", timeout=2 * TIMEOUT_MS)
    expect(page.locator("#jobs")).to_contain_text("about 1 volumes remain; tomopipe run goes on.")


def test_a_log_that_is_read_stays_as_it_was_scrolled_while_other_jobs_run(folder, serve, visit):
    made = Made(folder)
    made.log("full_recon", NASTY, "reading rows\n" * 30)
    page = visit(serve(folder))
    page.get_by_role("button", name="Jobs").click()
    page.locator("#jobs summary", has_text="full_recon").click()
    log = page.locator("#jobs pre").last
    log.evaluate("(log) => { log.scrollTop = 100; }")
    made.status("full_recon", "bone_001", 0, "running")
    expect(page.locator("#jobs summary")).to_have_count(3)
    assert log.evaluate("(log) => log.scrollTop") == 100


def test_a_scan_of_known_cor_without_a_sweep_has_its_volume_and_takes_another_cor(folder, page):
    row(page, "bone_007").click()
    makes = "No sweep of this scan; tomopipe run --predict bone_007 makes one."
    expect(page.locator("#nothing")).to_have_text(makes)
    expect(page.locator("#nothing code")).to_have_text("tomopipe run --predict bone_007")
    expect(page.locator("#facts").get_by_role("link", name="Volume")).to_be_visible()
    page.keyboard.type("512.25")
    page.keyboard.press("Enter")
    expect(row(page, "bone_007")).to_contain_text("512.25 ✎")
    assert read_cells(folder / "scans.tsv")["bone_007"]["cor_px"] == "512.25"


def test_the_prediction_of_a_replaced_outlier_is_taken_back_with_a_key_or_a_click(
    folder, serve, visit
):
    page = visit(serve(folder))
    for scan in ("wood_1", "bone_008"):  # without a COR before
        go_to(page, scan)
        expect(page.get_by_role("button", name="Use ")).to_have_count(0)
        expect(page.locator("#facts")).not_to_contain_text("null")
    row(page, "bone_006").click()
    box = page.locator("#cor")
    expect(box).to_have_value("513.45")
    page.keyboard.press("p")
    expect(box).to_have_value("548.50")
    page.wait_for_selector("#stage[data-cor='548.50']")
    page.keyboard.press("Enter")
    expect(row(page, "bone_006")).to_contain_text("548.50 ✎")
    assert read_cells(folder / "scans.tsv")["bone_006"]["cor_px"] == "548.50"
    expect(page.get_by_role("button", name="Use ")).to_have_count(0)  # it is in use
    page.keyboard.press("u")
    expect(row(page, "bone_006")).to_contain_text("513.45")
    expect(box).to_have_value("513.45")
    page.get_by_role("button", name="Use 548.50").click()
    expect(box).to_have_value("548.50")


@pytest.fixture(scope="module")
def replaced(tmp_path_factory):
    """A server of a campaign that no test changes, with slices of a replaced outlier."""
    folder = make_campaign(tmp_path_factory.mktemp("replaced"))
    write_pictures(folder, "bone_006", 513.45)
    path = folder / "results/try_center/bone_006/prediction.json"
    prediction = json.loads(path.read_text())
    for method in prediction["methods"].values():  # of a search that was narrow
        method["curve"] = {name: values[80:] for name, values in method["curve"].items()}
    path.write_text(json.dumps(prediction))
    path = folder / "results/try_center/bone_008/prediction.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"best_cor_px": 514.2}))
    with Server(folder) as server:
        yield server


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [(820, 1180, "dark"), (1366, 768, "light"), (1440, 900, "dark"), (1920, 1080, "light")],
)
def test_the_candidates_of_a_scan_are_side_by_side_and_all_in_sight(
    replaced, visit, width, height, scheme
):
    page = visit(replaced, viewport={"width": width, "height": height}, color_scheme=scheme)
    row(page, "bone_006").click()
    page.wait_for_selector("#stage[data-cor='513.45'][data-exact=yes]")
    cards = page.locator("#candidates button")
    expect(cards).to_have_count(3)
    words = [card.inner_text().split("\n") for card in cards.all()]
    assert [" ".join(text[0].split()[1:]) for text in words] == [
        "Measured 548.50 px", "Used 513.45 px", "On the line 513.65 px"
    ]  # fmt: skip
    assert words[0][1] == "classical, confidence 0.71"
    assert words[1][1] == "replaced outlier, bone_005, bone_007"
    legend = page.locator("#scores .legend span")
    expect(legend).to_have_text(["classical", "wedge", "candidate", "best", "in use", "shown"])
    for part in legend.all():
        assert part.evaluate("part => part.getBoundingClientRect().right") <= canvas_end(page)
    # a square slice fills its third of the canvas
    canvas = page.locator("#picture").bounding_box()
    if width >= 1366:
        assert 0.98 * min(canvas["width"] / 3, canvas["height"]) >= 280
    left = canvas["x"]
    for card in cards.all():
        box = card.bounding_box()
        assert abs(box["x"] - left) < 2
        left += canvas["width"] / 3
        assert canvas["y"] + canvas["height"] <= box["y"] + 1
        for part in card.locator("b, span").all():  # no COR, source or confidence is cut
            assert part.evaluate("part => part.scrollWidth <= part.clientWidth")
            bottom = (around := part.bounding_box())["y"] + around["height"]
            assert bottom <= box["y"] + box["height"]
    scores = page.locator("#scores [role=img]").bounding_box()
    marks = [
        mark.bounding_box()["x"] for mark in page.locator("#scores [role=img] .candidate").all()
    ]
    assert len(marks) == 3
    assert scores["x"] < min(marks) <= max(marks) < scores["x"] + scores["width"]
    stage, controls = (page.locator(f"#{name}").bounding_box() for name in ("stage", "controls"))
    assert stage["height"] >= (0.6 if width > 1100 else 0.45) * height
    assert controls["y"] + controls["height"] <= height
    assert look(page, "tooFaint") == []
    assert look(page, "tooWide") <= 0
    page.mouse.click(left - 60, canvas["y"] + canvas["height"] / 2)  # the last picture
    expect(page.locator("#cor")).to_have_value("513.65")
    cards.first.click()
    expect(page.locator("#cor")).to_have_value("548.50")


def canvas_end(page):
    return (box := page.locator("#scores").bounding_box())["x"] + box["width"]


def test_the_cause_comes_first_and_once_then_what_to_do(replaced, visit):
    page = visit(replaced)
    go_to(page, "bone_006")
    cause = "35.65 px from the median"
    expect(row(page, "bone_006").locator(".why")).to_contain_text(re.compile(f"^{cause}"))
    expect(page.locator("#facts .why")).to_contain_text(re.compile(f"^{cause}"))
    expect(page.locator("#to-do")).to_contain_text("accept the sharper one")
    assert page.locator("#facts").inner_text().count("predicted 548.50") == 1
    go_to(page, "wood_1")
    text = page.locator("#facts").inner_text()
    assert text.count("not accepted") == text.count("best at the end") == 1, text
    expect(row(page, "bone_007").locator(".confidence")).to_have_count(0)  # by hand
    expect(row(page, "bone_001").locator(".confidence")).to_have_text("0.88")


def test_the_series_shows_what_was_measured_and_how_far_a_point_beyond_the_axis_is(replaced, visit):
    page = visit(replaced)
    go_to(page, "bone_008")
    page.get_by_role("button", name="Series").click()
    cells = page.locator("#line-scans tr", has_text="bone_008").locator("td")
    expect(cells.nth(3)).to_have_text("514.20 (0.00, not accepted)")
    expect(page.locator("#series-line text.beyond")).to_have_text(["−1.64 px"])


def test_one_key_decides_between_the_candidates(folder, serve, visit):
    write_pictures(folder, "bone_005", 513.25)
    page = visit(serve(folder))
    row(page, "bone_005").click()
    page.wait_for_selector("#stage[data-cor='513.25'][data-exact=yes]")
    expect(page.locator("#candidates")).to_be_hidden()  # all are one
    row(page, "bone_006").click()
    box, cards = page.locator("#cor"), page.locator("#candidates")
    page.wait_for_selector("#stage[data-cor='513.45'][data-exact=yes]")
    for key, cor in (("p", "548.50"), ("i", "513.65"), ("f", "513.45")):
        page.keyboard.press(key)
        expect(box).to_have_value(cor)
        page.wait_for_selector(f"#stage[data-cor='{cor}'][data-exact=yes]")
        expect(cards.locator("[aria-pressed=true]")).to_contain_text(cor)
    page.keyboard.press("ArrowRight")  # none of them
    expect(cards).to_be_hidden()
    page.keyboard.press("I")  # its slice is not in sight
    page.wait_for_selector("#stage[data-cor='513.65'][data-exact=yes]")
    assert "bone_006" not in read_cells(folder / "scans.tsv")
    page.keyboard.press("e")
    expect(cards).to_be_visible()
    page.wait_for_selector("#stage[data-cor='513.65'][data-exact=yes]")
    page.keyboard.press("P")
    expect(row(page, "bone_006")).to_contain_text("548.50 ✎")
    assert read_cells(folder / "scans.tsv")["bone_006"]["cor_px"] == "548.50"
    expect(page.locator("#facts h2")).not_to_have_text("bone_006")
    page.keyboard.press("u")
    expect(page.locator("#facts h2")).to_have_text("bone_006")
    expect(cards).to_be_visible()
    page.keyboard.press("Enter")
    expect(row(page, "bone_006")).to_contain_text("513.45 ✎")


def test_keys_skip_a_scan_and_change_the_view(folder, page):
    go_to(page, "bone_006")
    page.keyboard.press("x")
    expect(page.locator("#toast")).to_contain_text("bone_006: skipped")
    expect(page.locator("#facts h2")).not_to_have_text("bone_006")  # the next to decide on
    assert read_cells(folder / "scans.tsv")["bone_006"]["select"] == "no"
    for key, select in (("u", "auto"), ("x", "no")):
        page.keyboard.press(key)
        expect(page.locator("#toast")).to_contain_text("as before" if key == "u" else "skipped")
        assert read_cells(folder / "scans.tsv")["bone_006"]["select"] == select
        if key == "u":
            expect(page.locator("#facts h2")).to_have_text("bone_006")
            expect(page.locator("#select")).to_have_value("auto")
    row(page, "bone_006").click()
    expect(page.locator("#select")).to_have_value("no")
    page.keyboard.press("x")
    expect(page.locator("#toast")).to_contain_text("bone_006: taken again")
    expect(page.locator("#select")).to_have_value("auto")
    for shown in ("series", "sweeps", "plan", "jobs", "scan"):
        page.keyboard.press("v")
        expect(page.locator(f"section#{shown}")).to_be_visible()


def test_the_open_scan_shows_what_changed_in_its_series_and_what_others_changed(folder, page):
    go_to(page, "bone_006")
    page.wait_for_selector("#stage[data-cor='513.45'][data-exact=yes]")
    in_series = page.locator("#facts table tr", has_text="bone_008")
    expect(in_series).to_contain_text("512.81")
    page.get_by_role("button", name="Series").click()
    page.get_by_label("accept for bone_006").uncheck()
    page.locator("#accept-line").click()
    expect(page.locator("#toast")).to_contain_text("2 scans: the COR of the line")
    page.get_by_role("button", name="Scans", exact=True).click()
    expect(in_series).to_contain_text("514.45")
    big, box = page.locator("#facts .big"), page.locator("#cor")
    page.keyboard.press("ArrowRight")  # to another COR, which stays
    handled(page)
    there = box.input_value()
    edit_table(folder / "scans.tsv", {"bone_006": {"cor_px": "513.00"}})
    expect(big).to_have_text("513.00 px by hand")
    expect(box).to_have_value(there)
    go_to(page, "bone_007")
    page.keyboard.press("n")
    page.keyboard.type(", is be")  # after what stands there
    edit_table(folder / "scans.tsv", {"bone_007": {"cor_px": "513.05"}})
    expect(row(page, "bone_007")).to_contain_text("513.05")
    page.keyboard.type("ing written")
    expect(page.locator("#note")).to_have_value("by eye, is being written")
    page.keyboard.press("Escape")
    expect(big).to_have_text("513.05 px by hand")
    expect(box).to_have_value("513.05")


MODEL = {"start_px": 511.25, "slope_px": 0.4, "spread_px": 0.1, "name": "line over time"}


def test_the_series_shows_the_limit_in_use_and_what_sets_it(folder, page):
    for scan, cor in (("bone_001", "511.65"), ("bone_002", "512.05"), ("bone_003", "512.45")):
        (folder / "results/try_center" / scan / "center_of_rotation.txt").write_text(cor)
    go_to(page, "bone_001")
    page.get_by_role("button", name="Series").click()
    limit = page.locator("#limit")
    expect(limit).to_have_text(
        "Limit in use (the band): ±10.00 px from the median 512.25: "
        "the smallest limit, as 5 MAD of the series is less."
    )
    page.locator("#max-delta").fill("3")
    expect(limit).to_have_text(
        "Limit in use (the band): ±3.00 px from the median 512.25: max_delta_px."
    )

    def over_time(route):  # as of views of a file with recorded times
        answer = route.fetch()
        found = answer.json()
        places = {row["scan"]: row["index"] ** 2 for row in found["rows"]}
        found |= {"along": {"name": "time / min", "places": places}}
        route.fulfill(response=answer, json=found | {"model": MODEL})

    route(page, "**/api/trial?*", over_time)
    page.locator("#max-delta").fill("4")
    plot = page.locator("#series-plot")
    expect(plot).to_contain_text("time / min")
    at = dict(
        plot.locator("g.point").evaluate_all(
            """(points) => points.map((point) => [point.dataset.scan,
                 Number(point.querySelector(".after").getAttribute("transform").match(/[0-9.]+/)[0])])"""
        )
    )
    apart = [at[f"bone_00{n + 1}"] - at[f"bone_00{n}"] for n in (1, 2, 3)]
    assert [each / apart[0] for each in apart] == pytest.approx([1, 5 / 3, 7 / 3], rel=0.01)
    # the model's line has a corner at each scan, for it goes by numbers
    line = plot.locator("polyline.median").get_attribute("points").split()
    assert [float(point.split(",")[0]) for point in line[1:4]] == pytest.approx(
        [at[f"bone_00{n}"] for n in (1, 2, 3)], abs=0.01
    )


def test_a_key_of_a_picture_that_there_is_not_says_why(replaced, visit):
    page = visit(replaced)
    toast = page.locator("#toast")
    go_to(page, "bone_001")
    page.keyboard.press("e")
    expect(toast).to_have_text(
        "Nothing to compare: e shows the CORs of a scan to review side by side, where they differ."
    )
    go_to(page, "bone_009")
    page.keyboard.press("Enter")
    expect(toast).to_have_text("bone_009 has no COR yet: type one, then Enter.")
    go_to(page, "bone_007")
    expect(page.locator("#nothing")).to_be_visible()
    page.keyboard.press("r")
    expect(toast).to_contain_text("`tomopipe run --predict bone_007` makes one")


def test_esc_brings_back_the_cor_that_was_shown_before_typing(replaced, visit):
    page = visit(replaced)
    row(page, "bone_006").click()
    box = page.locator("#cor")
    expect(box).to_have_value("513.45")
    page.wait_for_selector("#stage[data-cor='513.45']")
    page.keyboard.type("515.00")
    page.wait_for_selector("#stage[data-cor='515.00']")
    page.keyboard.press("Escape")
    expect(box).to_have_value("513.45")
    page.wait_for_selector("#stage[data-cor='513.45']")
    box.fill("514.00")
    page.wait_for_selector("#stage[data-cor='514.00']")
    box.press("Escape")
    expect(box).to_have_value("513.45")


def test_a_cor_off_the_detector_shows_no_slice_and_is_not_written(folder, page):
    before = read_cells(folder / "scans.tsv")
    go_to(page, "bone_001")
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    page.keyboard.press("b")
    page.keyboard.press("Space")  # the flicker must not bring a slice back
    page.keyboard.type("9999")
    off = page.locator("#nothing")
    expect(off).to_have_text(
        "COR 9999 is outside the detector columns in use, 0 to 1023: there is no slice."
    )
    page.wait_for_timeout(1200)  # ms, two turns of the flicker
    expect(off).to_be_visible()
    expect(page.locator("#stage")).not_to_have_attribute("data-cor", re.compile("."))
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#label-a")).to_have_text("")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("COR 9999.00 is off the detector (0 to 1023)")
    assert read_cells(folder / "scans.tsv") == before
    page.keyboard.press("Escape")
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    expect(off).to_be_hidden()
    expect(page.locator("#strip")).to_be_visible()


def test_two_browsers(folder, serve, visit):
    server = serve(folder)
    ada, bob = visit(server), visit(server)
    for page in (ada, bob):
        row(page, "wood_1").click()
        page.wait_for_selector("#stage[data-cor]")
    ada.keyboard.type("509.5")
    ada.keyboard.press("Enter")
    expect(row(ada, "wood_1")).to_contain_text("509.50")
    bob.keyboard.type("511")
    bob.keyboard.press("Enter")
    expect(bob.locator("#conflict-body")).to_contain_text("509.50")
    expect(bob.locator("#conflict .main")).to_have_text("Keep what is there")
    bob.keyboard.press("Escape")  # decides nothing
    expect(bob.locator("#conflict")).to_be_visible()
    bob.get_by_role("button", name="Keep what is there").click()
    expect(row(bob, "wood_1")).to_contain_text("509.50")
    expect(bob.locator("#facts .big")).to_contain_text("509.50 px by hand")
    assert read_cells(folder / "scans.tsv")["wood_1"]["cor_px"] == "509.50"
    row(bob, "bone_001").click()  # another row is merged without a word
    expect(bob.locator("#facts h2")).to_have_text("bone_001")
    bob.wait_for_selector("#stage[data-cor='511.65']")
    bob.keyboard.press("Enter")
    expect(row(bob, "bone_001")).to_contain_text("✎")
    cells = read_cells(folder / "scans.tsv")
    assert (cells["wood_1"]["cor_px"], cells["bone_001"]["cor_px"]) == ("509.50", "511.65")


def test_the_line_of_a_series_is_accepted_for_those_that_need_eyes_and_taken_back(folder, page):
    go_to(page, "bone_001")
    page.get_by_role("button", name="Series").click()
    accept = page.locator("#accept-line")
    expect(accept).to_have_text("Accept the line for these 3 scans")
    expect(page.locator("#series-line g.point")).to_have_count(8)
    expect(page.locator("#series-line")).to_contain_text("scatter 0.")
    expect(page.locator("#series-plot g.point .st-manual")).to_have_count(1)
    page.get_by_label("accept for bone_005").uncheck()
    expect(accept).to_have_text("Accept the line for these 2 scans")
    accept.click()
    expect(page.locator("#toast")).to_contain_text("2 scans: the COR of the line")
    expect(page.locator("#series-plot g.point .st-manual")).to_have_count(3)
    # those who are on the line: 511.25 + 0.4 index
    expect(row(page, "bone_008")).to_contain_text("514.45 ✎")
    cells = read_cells(folder / "scans.tsv")
    assert {scan: row["cor_px"] for scan, row in cells.items()} == {
        "bone_006": "513.65", "bone_007": "513.65", "bone_008": "514.45", "bone_010": ""
    }  # fmt: skip
    page.keyboard.press("u")
    expect(row(page, "bone_008")).to_contain_text("512.81")
    cells = read_cells(folder / "scans.tsv")
    assert [cells[scan]["cor_px"] for scan in ("bone_006", "bone_008")] == ["", ""]


def test_a_scan_that_was_asked_for_before_its_decision_shows_what_was_decided(page):
    go_to(page, "bone_001")
    answers = []
    route(
        page,
        "**/api/scan?scan=bone_008",
        lambda asked: answers.append((asked, asked.fetch())),
        times=1,
    )
    row(page, "bone_008").click()
    page.get_by_role("button", name="Series").click()
    page.locator("#accept-line").click()
    expect(page.locator("#toast")).to_contain_text("3 scans: the COR of the line")
    for asked, answer in answers:
        asked.fulfill(response=answer)
    page.get_by_role("button", name="Scans", exact=True).click()
    expect(page.locator("#facts h2")).to_have_text("bone_008")
    expect(page.locator("#cor")).to_have_value("514.45")


def changed_meanwhile(page, folder, scan, cor_px):
    """Let another person change a scan just before the next decision arrives."""

    def handle(route):
        edit_table(folder / "scans.tsv", {scan: {"cor_px": cor_px, "note": "Bob"}})
        route.continue_()

    route(page, "**/api/decide", handle, times=1)


def test_what_was_not_done_for_several_scans_is_said_and_can_still_be_undone(folder, page):
    row(page, "bone_001").click()
    page.get_by_role("button", name="Series").click()
    toast = page.locator("#toast")
    left = "Changed by someone else meanwhile, not overwritten:"
    changed_meanwhile(page, folder, "bone_006", "500.00")
    page.locator("#accept-line").click()
    expect(toast).to_have_text(
        f"2 scans: the COR of the line, in the table. u undoes it. {left} bone_006"
    )
    expect(row(page, "bone_008")).to_contain_text("514.45 ✎")
    changed_meanwhile(page, folder, "bone_008", "501.00")
    page.keyboard.press("u")
    expect(page.locator("#conflict-body")).to_contain_text("501.00")
    expect(page.locator("#conflict-body p")).to_have_count(1)  # the other one is as before
    page.get_by_role("button", name="Write mine").click()
    expect(toast).to_have_text("2 scans: as before")
    cells = read_cells(folder / "scans.tsv")
    assert [cells[f"bone_00{n}"]["cor_px"] for n in (5, 6, 8)] == ["", "500.00", ""]
    page.keyboard.press("u")
    expect(toast).to_have_text("Nothing to undo.")


def test_an_undo_that_could_not_be_written_can_be_tried_again(folder, page):
    before = read_cells(folder / "scans.tsv")["bone_007"]
    go_to(page, "bone_007")
    page.keyboard.type("512.5")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("512.50 px, in the table")
    route(page, "**/api/decide", lambda route: route.abort(), times=1)
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_contain_text("not written, or not confirmed")
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_have_text("bone_007: as before")
    assert read_cells(folder / "scans.tsv")["bone_007"] == before


def test_a_cell_that_was_no_cor_comes_back_and_so_does_what_was_decided_before(
    folder, serve, visit
):
    edit_table(folder / "scans.tsv", {"bone_005": {"cor_px": "5.O"}, "bone_006": {"cor_px": "9e9"}})
    before = read_cells(folder / "scans.tsv")
    page = visit(serve(folder))
    for scan in ("bone_007", "bone_005", "bone_006"):
        go_to(page, scan)
        page.locator("#cor").fill("512.5")
        page.locator("#cor").press("Enter")
        expect(row(page, scan)).to_contain_text("512.50 ✎")
    for scan in ("bone_006", "bone_005", "bone_007"):
        page.keyboard.press("u")
        expect(page.locator("#toast")).to_have_text(f"{scan}: as before")
    assert read_cells(folder / "scans.tsv") == before


def test_a_scan_that_is_opened_while_a_decision_is_written_stays_open(folder, page):
    go_to(page, "bone_007")
    waiting = hold(page, "**/api/decide")
    page.keyboard.type("512.5")
    page.keyboard.press("Enter")
    go_to(page, "bone_005")
    page.keyboard.type("49")
    waiting[0].continue_()
    expect(page.locator("#toast")).to_contain_text("bone_007: 512.50 px, in the table")
    expect(page.locator("#facts h2")).to_have_text("bone_005")
    expect(page.locator("#cor")).to_have_value("49")


@pytest.mark.parametrize(("scan", "cor"), [("bone_007", "512.5"), ("bone_005", "513.25")])
def test_enter_writes_what_the_box_shows_where_a_scan_opens_while_typing(folder, page, scan, cor):
    go_to(page, "bone_007")
    waiting = hold(page, "**/api/scan?*")
    with page.expect_request("**/api/scan?*"):
        row(page, scan).click()  # once more, or another one
    page.locator("#cor").fill("512.5")
    with page.expect_response("**/api/scan?*"):
        waiting.release()
    expect(page.locator("#facts h2")).to_have_text(scan)
    expect(page.locator("#cor")).to_have_value(cor)
    page.locator("#cor").press("Enter")
    expect(row(page, scan)).to_contain_text("✎")
    assert float(read_cells(folder / "scans.tsv")[scan]["cor_px"]) == float(cor)


@pytest.fixture
def series_with(folder, serve, visit):
    """Call it with a scan and the confidence of its prediction: the page with its series."""

    def visited(scan, confidence):
        path = folder / f"results/try_center/{scan}/prediction.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"confidence": confidence}))
        page = visit(serve(folder))
        go_to(page, scan)
        page.get_by_role("button", name="Series").click()
        return page

    return visited


def test_a_line_through_few_scans_is_not_ticked(series_with):
    page = series_with("bone_001", 0.51)
    expect(page.locator("#series-line")).to_contain_text("through the 4 trusted scans")
    expect(page.locator("#series-line")).to_contain_text("may be far off beyond them")
    expect(page.locator("#accept-line")).to_be_disabled()
    page.get_by_label("accept for bone_008").check()
    expect(page.locator("#accept-line")).to_have_text("Accept the line for this scan")


def test_an_outlier_that_was_predicted_with_confidence_is_not_ticked(series_with):
    page = series_with("bone_006", 0.95)
    accept, tick = page.locator("#accept-line"), page.get_by_label("accept for bone_006")
    expect(accept).to_have_text("Accept the line for these 2 scans")
    expect(tick).not_to_be_checked()
    expect(page.locator("#line-scans tr", has_text="bone_006")).to_contain_text("548.50 (0.95)")
    tick.check()
    expect(accept).to_have_text("Accept the line for these 3 scans")
    accept.click()
    expect(page.locator("#toast")).to_contain_text("3 scans: the COR of the line")
    page.locator('#views [data-view="scan"]').click()
    expect(page.locator("#cor")).to_have_value("513.65")  # of the scan that was open all the time
    expect(page.locator("#facts")).to_contain_text("513.65")


def test_the_view_of_jobs_says_that_it_waits_for_an_answer(replaced, visit):
    page = visit(replaced)
    route(page, "**/api/status*", lambda route: None)  # SLURM does not answer
    page.get_by_role("button", name="Jobs").click()
    expect(page.locator("#jobs")).to_contain_text("Looking for jobs")


@pytest.mark.parametrize("key", ["Enter", "ArrowDown"])
def test_the_search_leads_to_its_first_hit_and_enter_accepts_nothing_else(folder, page, key):
    before = read_cells(folder / "scans.tsv")
    expect(page.locator("#facts h2")).to_have_text("wood_1")
    for text in ("bone_00", "bone_001"):  # typed again, it replaces what stood there
        page.keyboard.press("/")
        page.keyboard.type(text)
        page.locator("#search").blur()  # as after a click beside it
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("wood_1 is not accepted")
    waiting = hold(page, "**/api/scan?*")
    page.keyboard.press("/")
    with page.expect_request("**/api/scan?*"):
        page.keyboard.press(key)
    page.keyboard.press("Enter")  # while the hit is being opened
    handled(page)
    waiting.release()
    expect(page.locator("#facts h2")).to_have_text("bone_001")
    page.wait_for_selector("#stage[data-cor='511.65']")
    assert read_cells(folder / "scans.tsv") == before
    page.keyboard.type("51")
    page.keyboard.press("Escape")  # what was typed first, then the search
    expect(page.locator("#search")).to_have_value("bone_001")
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    page.keyboard.press("Enter")
    expect(row(page, "bone_001")).to_contain_text("511.65 ✎")
    cells = read_cells(folder / "scans.tsv")
    assert cells.pop("bone_001")["cor_px"] == "511.65"
    assert cells == before
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_have_value("")
