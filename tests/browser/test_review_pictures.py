"""The pictures beside which one decides: the COR that Enter writes, the strip, the grey window."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import handled, row
from tests.review_campaign import write_pictures
from tomopipe.review.queue import read_cells

pytestmark = pytest.mark.browser

# the brightness of the middle of the stage, and of the frame's colour nothing
SEEN = """() => {
  const { width, height } = document.getElementById("picture");
  const context = document.getElementById("picture").getContext("2d");
  const { data } = context.getImageData(width / 2 - 60, height / 2 - 60, 120, 120);
  let sum = 0;
  for (let at = 0; at < data.length; at += 4) sum += data[at];
  return (4 * sum) / data.length;
}"""


@pytest.fixture
def page(folder, serve, visit):
    page = visit(serve(folder))
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    return page


def exact(page, cor):
    page.wait_for_selector(f"#stage[data-cor='{cor}'][data-exact=yes]")


def test_the_picture_is_of_the_cor_that_enter_writes(page, folder):
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.type("512,3456")  # a comma is a point
    exact(page, "512.35")
    assert any("api/slice" in url and "cor=512.35&" in url for url in asked)
    expect(page.locator("#label-a")).to_have_text("COR 512.35")
    page.keyboard.press("Enter")
    expect(row(page, "bone_001")).to_contain_text("512.35 ✎")
    assert read_cells(folder / "scans.tsv")["bone_001"]["cor_px"] == "512.35"


def test_enter_shows_a_cor_that_was_typed_before_it_is_written(page, folder):
    page.keyboard.type("51")  # it might become 512
    expect(page.locator("#label-a")).to_have_text("COR 511.65")
    page.keyboard.press("Enter")
    exact(page, "51.00")
    expect(page.locator("#label-a")).to_have_text("COR 51.00")
    assert "bone_001" not in read_cells(folder / "scans.tsv")
    page.keyboard.press("Enter")
    expect(row(page, "bone_001")).to_contain_text("51.00 ✎")
    assert read_cells(folder / "scans.tsv")["bone_001"]["cor_px"] == "51.00"


def test_a_click_on_the_strip_chooses_and_its_steps_double(page):
    crops = page.locator(".crop")
    expect(crops).to_have_count(7)
    assert crops.all_inner_texts() == ["−4.0", "−2.0", "−1.0", "511.65", "+1.0", "+2.0", "+4.0"]
    crops.nth(5).click()
    exact(page, "513.65")
    expect(page.locator("#cor")).to_have_value("513.65")
    expect(page.locator(".crop[aria-pressed=true]")).to_have_text("513.65")
    page.locator("#strip").hover()
    page.mouse.wheel(0, -100)
    expect(crops.nth(4)).to_have_text("+0.5")
    page.keyboard.press("ArrowLeft")
    exact(page, "513.15")
    page.keyboard.press("]")
    expect(crops.nth(4)).to_have_text("+0.2")


def test_the_window_is_kept_per_scan(page):
    before = page.evaluate(SEEN)
    text = page.locator("#level-text").inner_text()
    page.locator("#picture").hover()
    page.mouse.down(button="right")
    page.mouse.move(900, 200, steps=4)  # up: lighter
    page.mouse.up(button="right")
    handled(page)
    lighter = page.evaluate(SEEN)
    assert lighter > before + 20
    moved = page.locator("#level-text").inner_text()
    assert moved != text
    row(page, "wood_1").click()
    exact(page, "400.00")
    expect(page.locator("#level-text")).to_have_text(text)  # of its own
    row(page, "bone_001").click()
    exact(page, "511.65")
    expect(page.locator("#level-text")).to_have_text(moved)
    assert abs(page.evaluate(SEEN) - lighter) < 1
    box = page.locator("#histogram").bounding_box()
    middle_y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 2, middle_y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, middle_y, steps=4)  # black comes up
    page.mouse.up()
    handled(page)
    assert page.evaluate(SEEN) < lighter - 20
    page.locator("#histogram").dblclick()
    expect(page.locator("#level-text")).to_have_text(text)
    assert abs(page.evaluate(SEEN) - before) < 1


def test_each_kind_of_picture_is_shown(page):
    kinds = {"r": "rows", "o": "overlay", "d": "difference", "g": "sinogram"}
    for key, kind in kinds.items():
        picture = "slice" if kind == "rows" else kind
        with page.expect_response(f"**/api/{picture}?*") as answer:
            page.keyboard.press(key)
        assert answer.value.ok
        expect(page.locator(f"#mode-{kind}")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("t")
    expect(page.locator("#mode-slice")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")
    exact(page, "512.65")
    page.keyboard.press("m")
    expect(page.locator("#label-a")).to_have_text("A  COR 512.65 minus B")


def test_a_slice_is_drawn_through_the_series_with_the_slider_and_with_keys(folder, serve, visit):
    write_pictures(folder, "bone_002", 512.05, radius_px=60.0)
    for name in ("bone_001", "bone_002"):
        (folder / "results" / f"{name}_rec.h5").unlink(missing_ok=True)
    inventory = folder / "results" / "inventory.tsv"
    head, *rows = inventory.read_text().splitlines()
    times = [head + "\ttime_s", *(f"{line}\t{1.7e9 + 60 * n}" for n, line in enumerate(rows))]
    inventory.write_text("\n".join(times) + "\n")
    page = visit(serve(folder))
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    page.get_by_role("button", name="Series").click()
    text, here = page.locator("#through-text"), page.locator("#series .point.here")
    image = "() => document.getElementById('through-picture').toDataURL()"
    expect(text).to_have_text("bone_001: COR 511.65 px, predicted; row 256 of 512, from its sweep")
    expect(here).to_have_count(2)
    small = page.evaluate(image)
    page.keyboard.press("ArrowRight")
    after = "bone_002, 60 s after the first: COR 512.05 px, predicted; row 256"
    expect(text).to_contain_text(after)
    assert page.evaluate(image) != small  # a larger bead
    for point in here.all():
        expect(point).to_have_attribute("data-scan", "bone_002")
    page.locator("#time").fill("0")
    expect(text).to_contain_text("bone_001: COR 511.65 px, predicted; row 256")
    assert page.evaluate(image) == small
    page.locator("#through-row").fill("60")
    page.keyboard.press("Enter")
    expect(text).to_contain_text("row 40 of 512")
    page.locator("#max-delta").focus()
    page.keyboard.press("ArrowRight")  # moves that slider
    expect(page.locator("#max-delta-value")).to_have_text("51 px")
    expect(text).to_contain_text("bone_001: ")
    page.keyboard.press("Tab")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(text).to_contain_text("bone_003, 2.0 min after the first: ")
    expect(page.locator("#time")).to_have_value("2")
