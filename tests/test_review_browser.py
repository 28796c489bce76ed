"""The page in a real browser: look, decide, run again, see the new state."""

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.report_campaign import NASTY, large, write_json
from tests.review_campaign import make_campaign, write_pictures
from tests.workflow.conftest import configure, failing, job_names, new_campaign, snakemake
from tomopipe.io.tiff import write_try_stack
from tomopipe.review.decisions import read_cells

pytestmark = pytest.mark.browser
TIMEOUT_MS = 60_000
LOOK = (Path(__file__).parent / "accessibility.js").read_text(encoding="utf-8").strip()


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium; the browsers that Playwright would download are not needed."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    expect.set_options(timeout=TIMEOUT_MS)  # the machine may have much else to do
    with sync_playwright() as playwright:
        # everything here is our own, and containers have no user namespaces for its sandbox
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Server:
    """A review of a campaign as a person starts it; each link is for one browser."""

    def __init__(self, folder, *options, environment=None):
        command = [sys.executable, "-u", "-m", "tomopipe", "review", str(folder), *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | (environment or {}),
        )
        self.links = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            if "token=" in line:
                self.links.put(line.split()[-1])

    def link(self):
        return self.links.get(timeout=60)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A server of a campaign that no test changes, with a file that cannot be read."""
    folder = make_campaign(tmp_path_factory.mktemp("shown"))
    (folder / "results" / "try_center" / "bone_005" / "prediction.json").write_text("{")
    server = Server(folder)
    yield server
    server.process.terminate()
    server.process.wait()


@pytest.fixture
def serve(request):
    def start(folder, *options, environment=None):
        server = Server(folder, *options, environment=environment)
        request.addfinalizer(server.process.wait)
        request.addfinalizer(server.process.terminate)
        return server

    return start


@pytest.fixture
def visit(chromium):
    """Open the next link of a server in a browser of its own; trouble of the page is kept."""
    contexts = []

    def open_page(server, **options):
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        page = context.new_page()
        page.trouble = []
        page.on("pageerror", lambda error: page.trouble.append(str(error)))
        page.on("dialog", lambda dialog: (page.trouble.append(dialog.message), dialog.dismiss()))
        page.on(
            "console",
            lambda message: (
                page.trouble.append(message.text)
                if message.type == "error" and "409" not in message.text
                else None
            ),
        )
        page.goto(server.link())
        page.wait_for_selector(".row[data-scan]")
        return page

    yield open_page
    for context in contexts:
        context.close()


def row(page, scan):
    return page.locator("#rows .row").filter(has=page.get_by_text(scan, exact=True))


def shown_cor(page):
    return float(page.locator("#stage").get_attribute("data-cor"))


def test_look_decide_run_again_see(tmp_path, serve, visit):
    folder = new_campaign(tmp_path / "campaign", {"a_1": 48.5, "a_2": 49.0, "a_3": 49.5})
    configure(folder, "export_star", enabled=False)
    configure(folder, "report", enabled=False)
    first = snakemake(folder)
    assert first.status == 0, first.text
    page = visit(serve(folder, "--allow-run", "--cores", "2"))
    assert "token" not in page.url
    row(page, "a_2").click()
    expect(page.locator("#facts h2")).to_have_text("a_2")
    page.wait_for_selector("#stage[data-cor]")

    start_px = float(page.locator("#cor").input_value())
    assert abs(start_px - 49.0) < 0.5
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#cor")).not_to_have_value(f"{start_px:.2f}")
    assert 2.0 <= float(page.locator("#cor").input_value()) - start_px <= 3.0

    page.keyboard.press("f")  # full size: fifths of a step
    page.keyboard.press("ArrowLeft")
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
    expect(row(page, "a_2")).to_contain_text("50.25 ✎")

    page.get_by_role("button", name="Next run").click()
    expect(page.locator("#plan-state")).to_contain_text("1 full_recon", timeout=5 * TIMEOUT_MS)
    page.get_by_role("button", name="Start the next run").click()
    expect(page.locator("#run-state")).to_contain_text("under way")
    expect(page.locator("#run-state")).to_contain_text("all is done", timeout=5 * TIMEOUT_MS)
    log = (folder / "logs" / "review_run.log").read_text()
    assert sorted(job for job in job_names(log) if job.startswith("full_recon")) == [
        "full_recon:a_2"
    ]
    # the plan is worked out again by itself
    expect(page.locator("#plan-state")).to_have_text("Nothing to do.", timeout=5 * TIMEOUT_MS)
    # the page looks by itself, without being loaded anew
    expect(row(page, "a_2")).not_to_contain_text("✎", timeout=TIMEOUT_MS)
    expect(row(page, "a_2").locator(".dot")).to_have_attribute("data-state", "manual")
    page.get_by_role("button", name="Series").click()
    expect(page.locator("#series-plot g.point.s-manual")).to_have_count(1)
    assert page.trouble == []


def test_a_run_is_stopped_and_that_of_somebody_else_reported(tmp_path, serve, visit):
    folder = new_campaign(tmp_path / "campaign", {"a_1": 48.5})
    slow = failing(tmp_path, "try_recon", "a_1", "time.sleep(600)")
    page = visit(serve(folder, "--allow-run", environment=slow))
    page.get_by_role("button", name="Next run").click()
    page.get_by_role("button", name="Start the next run").click()
    running = folder / "logs" / "status" / "try_recon" / "a_1.json"
    until = time.monotonic() + 100
    while not running.exists() and time.monotonic() < until:
        time.sleep(0.2)
    expect(page.locator("#run-state")).to_contain_text("of ")
    expect(page.locator("#run-bar")).to_be_visible()
    # to the server of somebody else this run is one that was started elsewhere
    other = visit(serve(folder, "--allow-run"))
    other.get_by_role("button", name="Next run").click()
    expect(other.locator("#run-state")).to_contain_text("started elsewhere")
    expect(other.get_by_role("button", name="Start the next run")).to_be_hidden()
    page.get_by_role("button", name="Stop the run").click()
    expect(page.locator("#run-state")).to_contain_text("was stopped", timeout=TIMEOUT_MS)
    expect(other.get_by_role("button", name="Start the next run")).to_be_visible()
    assert "user request" in (folder / "logs" / "review_run.log").read_text()
    assert not (folder / "results" / "try_center" / "a_1" / "try.tif").exists()
    assert page.trouble == other.trouble == []


def test_without_allow_run_nothing_can_be_started(tmp_path, serve, visit):
    folder = make_campaign(tmp_path)
    page = visit(serve(folder))
    page.get_by_role("button", name="Next run").click()
    expect(page.locator("#run-state")).to_contain_text("--allow-run")
    expect(page.get_by_role("button", name="Start the next run")).to_be_hidden()
    page.trouble.clear()
    status = page.evaluate("""async () => {
      const { csrf } = await (await fetch("api/queue")).json();
      const headers = { "x-tomopipe-csrf": csrf, "content-type": "application/json" };
      return (await fetch("api/run/start", { method: "POST", headers, body: "{}" })).status;
    }""")
    assert status == 403
    assert not (folder / ".snakemake").exists()


def test_two_browsers(tmp_path, serve, visit):
    folder = make_campaign(tmp_path)
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
    assert ada.trouble == bob.trouble == []


def test_a_scan_named_as_a_script_tag_is_shown_harmlessly(tmp_path, serve, visit):
    folder = make_campaign(tmp_path)
    write_pictures(folder, NASTY, 500.25)
    page = visit(serve(folder))
    row(page, NASTY).click()
    expect(page.locator("#facts h2")).to_have_text(NASTY)
    expect(page.locator("#facts")).to_contain_text("<b>out of memory</b>")
    page.wait_for_selector("#stage[data-cor='500.25']")
    page.get_by_role("button", name="Series").click()
    page.wait_for_selector("#series h3")
    expect(page.locator("#series-name")).to_have_value(NASTY)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.trouble == []


def test_filter_search_and_group(tmp_path, serve, visit):
    page = visit(serve(make_campaign(tmp_path)))
    expect(page.locator("#rows .row")).to_have_count(13)
    expect(page.locator("#rows .row .name").first).to_have_text("wood_1")
    page.locator("#filters .chip[data-state=ok]").click()
    expect(row(page, "bone_001")).to_have_count(0)
    page.locator("#filters .chip[data-state=ok]").click()
    page.keyboard.press("/")
    page.keyboard.type("knochen")
    expect(page.locator("#rows .row")).to_have_count(1)
    page.locator("#search").fill("")
    page.locator("#group").select_option("series")
    expect(page.locator("#rows .row.head").first).to_be_visible()
    page.locator("#group").blur()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("accept the COR")
    assert page.trouble == []


def look(page, what):
    return page.evaluate(f"{LOOK}.{what}()")


def views(page):
    """Show one view of the page after the other."""
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor]")
    page.keyboard.press("b")
    page.keyboard.press("s")
    expect(page.locator("#label-b")).to_contain_text("B")
    yield "scan"
    row(page, NASTY).click()
    expect(page.locator("#facts h2")).to_have_text(NASTY)
    yield "a failed scan"
    page.get_by_role("button", name="Series").click()
    page.locator("#series-name").select_option("bone")
    expect(page.locator("#series-plot g.point").first).to_be_visible()
    yield "series"
    page.get_by_role("button", name="Next run").click()
    yield "plan"
    page.get_by_role("button", name="Jobs").click()
    expect(page.locator("#jobs table")).to_be_visible()
    for detail in page.locator("#jobs summary").all():
        detail.click()
    yield "jobs"
    page.locator("#help-button").click()
    yield "keys"
    page.keyboard.press("Escape")


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_everything_can_be_read_and_has_a_name(shown, visit, scheme):
    page = visit(shown, color_scheme=scheme)
    page.locator("#notes summary").click()
    expect(page.locator("#notes")).to_contain_text("bone_005/prediction.json: not readable as JSON")
    page.locator("#filters .chip[data-state=manual]").click()
    for view in views(page):
        assert look(page, "tooFaint") == [], view
        assert look(page, "nameless") == [], view


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (2560, 1440), (820, 1180)])
def test_nothing_sticks_out(shown, visit, width, height):
    page = visit(shown, viewport={"width": width, "height": height})
    for view in views(page):
        assert look(page, "tooWide") <= 0, view


def test_the_focus_is_seen_wherever_it_goes(shown, visit):
    page = visit(shown)
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor]")
    page.locator("#campaign").click()  # where the way through the page begins
    met = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focus = look(page, "outline")
        if focus["body"]:
            break
        assert focus["width"] >= 2, focus
        assert focus["contrast"] >= 3, focus
        met.append(focus["name"])
    assert {"search", "group", "list", "slider", "cor", "accept", "undo", "mode-full"} <= set(met)
    assert {"pin", "select", "note", "stamp"} <= set(met)


def test_nothing_moves_by_itself_where_motion_is_not_wanted(shown, visit):
    page = visit(shown, reduced_motion="reduce")
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor='511.65']")
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#stage[data-cor='512.00']")
    page.keyboard.press(" ")
    shows_b = "() => document.getElementById('label-a').classList.contains('off')"
    expect(page.locator("#flicker")).to_have_attribute("aria-pressed", "true")
    time.sleep(1.2)  # it would have swapped twice
    assert not page.evaluate(shows_b)
    page.keyboard.press(" ")
    assert page.evaluate(shows_b)


def test_a_learned_model_is_shown_with_its_curve(tmp_path, serve, visit):
    folder = make_campaign(tmp_path)
    path = folder / "results" / "try_center" / "bone_001" / "prediction.json"
    data = json.loads(path.read_text())
    curve = {"cor_px": [500.0, 510.0, 520.0], "score": [0.1, 0.9, 0.2]}
    data["methods"]["ai"] = {"best_cor_px": 510.0, "confidence": 0.88, "curve": curve}
    write_json(data | {"method": "ai", "model": {"name": "small", "sha256": "ab" * 32}}, path)
    page = visit(serve(folder))
    row(page, "bone_001").click()
    facts = page.locator("#facts")
    expect(facts).to_contain_text("by ai, model small")
    expect(facts.locator("code")).to_have_text("abababababab")
    expect(facts.locator(".methods button")).to_have_count(3)
    expect(facts.locator("polyline.curve")).to_have_count(3)
    facts.locator(".methods button").filter(has_text=re.compile("^ai")).click()
    expect(page.locator("#cor")).to_have_value("510.00")


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A thousand scans; the first of the queue has a sweep of 1024 x 1024 pictures of noise."""
    folder = tmp_path_factory.mktemp("thousand")
    made = large(folder, 1000, 0).write()
    (folder / "raw").mkdir()
    for scan in made.scans:
        (folder / scan["path"]).touch()
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    write_pictures(folder, "run0_0001", 512.0)
    place = folder / "results/try_center/run0_0001"
    noise = np.random.default_rng(0).integers(0, 65536, (1024, 1124), dtype=np.uint16)
    grid_px = [492 + at / 2 for at in range(81)]
    pages = (noise[:, at : at + 1024] for at in range(len(grid_px)))
    write_try_stack(pages, grid_px, place / "try.tif", shape=(1024, 1024))
    write_json({"cor_px": grid_px, "row": 256, "binning": 1, "window": [0, 1]}, place / "try.json")
    return folder


def test_a_thousand_scans_are_painted_within_a_second(thousand, serve, visit):
    page = visit(serve(thousand))
    times_s = []
    for _ in range(5):
        start = time.perf_counter()
        page.reload(wait_until="commit")
        page.wait_for_selector(".row[data-scan]")
        times_s.append(time.perf_counter() - start)
    assert min(times_s) < 1.0, times_s  # the others share the machine with other tests
    expect(page.locator("#filters")).to_contain_text("needs eyes")
    assert page.locator("#rows .row").count() < 60  # the rows in sight alone
    assert page.trouble == []


# the time from a key to a picture that is drawn, ms
MEASURE = """async (count) => {
  const stage = document.getElementById("stage");
  const times = [];
  for (let at = 0; at < count; at++) {
    const drawn = new Promise((done) => new MutationObserver((_, watch) => {
      watch.disconnect();
      requestAnimationFrame(() => done());
    }).observe(stage, { attributes: true, attributeFilter: ["data-cor"] }));
    const start = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    await drawn;
    times.push(performance.now() - start);
    await new Promise((done) => setTimeout(done, 120));
  }
  return times.sort((a, b) => a - b);
}"""


def test_from_key_to_picture_in_a_tenth_of_a_second(thousand, serve, visit):
    page = visit(serve(thousand))
    page.locator("#search").fill("run0_0001")
    row(page, "run0_0001").click()
    page.wait_for_selector("#stage[data-cor]")
    p95_ms = []
    for _ in range(3):  # other tests run beside this one: the best of three counts
        page.keyboard.press("Escape")
        page.locator("#slider").fill("10")
        page.locator("#slider").blur()
        time.sleep(1)
        times_ms = page.evaluate(MEASURE, 40)
        p95_ms.append(times_ms[37])
        if p95_ms[-1] < 100:
            break
    assert min(p95_ms) < 100, p95_ms
    assert shown_cor(page) == 492 + 50 / 2
    assert page.trouble == []
