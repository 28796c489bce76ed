"""The page in a real browser: look, decide, run again, see the new state."""

import queue
import shutil
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.report_campaign import NASTY, large, write_json
from tests.review_campaign import make_campaign, write_pictures
from tests.workflow.conftest import configure, new_campaign, snakemake
from tomopipe.io.tiff import write_try_stack
from tomopipe.review.decisions import read_cells

pytestmark = pytest.mark.browser
TIMEOUT_MS = 30_000


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium; the browsers that Playwright would download are not needed."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        # everything here is our own, and containers have no user namespaces for its sandbox
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Server:
    """A review of a campaign as a person starts it; each link is for one browser."""

    def __init__(self, folder):
        command = [sys.executable, "-u", "-m", "tomopipe", "review", str(folder)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.links = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            if "token=" in line:
                self.links.put(line.split()[-1])

    def link(self):
        return self.links.get(timeout=60)


@pytest.fixture
def serve(request):
    def start(folder):
        server = Server(folder)
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
    page = visit(serve(folder))
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
    expect(page.locator("#plan-state")).to_contain_text("1 full_recon", timeout=TIMEOUT_MS)
    again = snakemake(folder)
    assert again.status == 0, again.text
    assert "full_recon:a_2" in again.jobs
    assert "full_recon:a_1" not in again.jobs
    # the page looks by itself, without being loaded anew
    expect(row(page, "a_2")).not_to_contain_text("✎", timeout=TIMEOUT_MS)
    expect(row(page, "a_2").locator(".dot")).to_have_attribute("data-state", "manual")
    page.get_by_role("button", name="Series").click()
    expect(page.locator("#series-plot g.point.s-manual")).to_have_count(1)
    assert page.trouble == []


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
    assert statistics.median(times_s) < 1.0, times_s
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
