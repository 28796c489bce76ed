"""The review page with a thousand scans, and a sweep of large pictures.

The times that it takes are printed (`pytest -s`), not asserted: the machine does other work.
"""

import time

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import row
from tests.report_campaign import Made, large, write_json
from tests.review_campaign import write_pictures
from tomopipe.review.table_edits import read_cells
from tomopipe.volumes.tiff import write_try_stack

pytestmark = pytest.mark.browser


def shown_cor(page):
    return float(page.locator("#stage").get_attribute("data-cor"))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """A thousand scans; the first of the queue has a sweep of 1024 x 1024 pictures of noise."""
    folder = tmp_path_factory.mktemp("thousand")
    made = large(folder, 1000, 0).write()
    (folder / "raw").mkdir()
    for scan in made.scans.values():
        (folder / scan.path).touch()
    (folder / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    write_pictures(folder, "run0_0001", 512.0)
    place = folder / "results/try_center/run0_0001"
    noise = np.random.default_rng(0).integers(0, 65536, (1024, 1124), dtype=np.uint16)
    grid_px = [492 + number / 2 for number in range(81)]
    pages = (noise[:, column : column + 1024] for column in range(len(grid_px)))
    write_try_stack(pages, grid_px, place / "try.tif", shape=(1024, 1024))
    sweep = {"cor_px": grid_px, "row": 256, "binning": 1, "window": [0, 1], "made_from": {}}
    write_json(sweep, place / "try.json")
    return folder


def test_of_a_thousand_scans_the_rows_in_sight_are_painted(thousand, serve, visit):
    page = visit(serve(thousand))
    start = time.perf_counter()
    page.reload(wait_until="commit")
    page.wait_for_selector(".row[data-scan]")
    print(f"a page of a thousand scans: {time.perf_counter() - start:.2f} s")
    expect(page.locator("#filters")).to_contain_text("doubtful")
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


def test_a_key_draws_the_next_picture_of_the_sweep(thousand, serve, visit):
    page = visit(serve(thousand))
    page.locator("#search").fill("run0_0001")
    row(page, "run0_0001").click()
    page.wait_for_selector("#stage[data-cor]")
    page.locator("#slider").fill("10")
    page.locator("#slider").blur()
    page.wait_for_selector("#stage[data-cor='497.00']")
    times_ms = page.evaluate(MEASURE, 40)
    print(f"from a key to its picture: median {times_ms[20]:.0f} ms, p95 {times_ms[37]:.0f} ms")
    assert shown_cor(page) == 492 + 50 / 2
    assert page.trouble == []


# how sharp each crop of the strip is, of a small bead
SHARPNESS = """() => [...document.querySelectorAll(".crop canvas")].map((canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum += data[at] ** 4;
  return sum;
})"""


def test_twenty_doubtful_scans_are_decided_with_the_keyboard(tmp_path, serve, visit):
    made = Made(tmp_path)
    made.results.mkdir()
    (tmp_path / "raw").mkdir()
    true_px = {}
    for number in range(20):
        name = f"run_{number:02d}"
        found_px = 510.0 + 0.1 * number
        true_px[name] = round(found_px + (-3, -2, -1, 1, 2)[number % 5], 2)
        made.scan(name, series="run", index=number)
        made.predict(name, found_px, 0.55)
        made.fix(name, f"{found_px:.2f}", f"{found_px:.2f}", "auto", series="run")
        made.resolve(name, round(found_px, 2), "auto")
        write_pictures(tmp_path, name, true_px[name], radius_px=2.0)
        (tmp_path / "raw" / f"{name}.h5").touch()
    made.write()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    page = visit(serve(tmp_path))
    expect(page.locator("#filters")).to_contain_text("doubtful 20")
    start = time.perf_counter()
    for number in range(20):
        scan = page.locator("#facts h2").inner_text()
        for _ in range(9):
            cor = page.locator("#cor").input_value()
            page.wait_for_selector(f"#stage[data-cor='{cor}'][data-exact=yes]")
            expect(page.locator(".crop[aria-pressed=true]")).to_have_text(cor)
            sharp = page.evaluate(SHARPNESS)
            steps = (-4, -2, -1, 0, 1, 2, 4)[sharp.index(max(sharp))]
            for _ in range(abs(steps)):
                page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
            if not steps:
                break
        page.keyboard.press("Enter")
        expect(page.locator("#toast")).to_contain_text(f"{scan}: {cor} px, in the table")
        if number < 19:
            expect(page.locator("#facts h2")).not_to_have_text(scan)
    print(f"twenty doubtful scans: {time.perf_counter() - start:.0f} s")
    cells = read_cells(tmp_path / "scans.tsv")
    assert {name: float(row["cor_px"]) for name, row in cells.items()} == true_px
    assert page.trouble == []
