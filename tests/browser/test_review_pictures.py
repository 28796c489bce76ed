"""The pictures beside which one decides: the COR that Enter writes, the strip, the grey window."""

import re

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import handled, look, row
from tests.report_campaign import write_json
from tests.review_campaign import BEAD_PX, TRUE_COR_PX, write_pictures
from tomopipe.campaign.campaign import load_campaign
from tomopipe.review.queue import read_cells
from tomopipe.volumes.tiff import write_stack

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
    page.keyboard.type("512.3456")
    exact(page, "512.35")
    assert any("api/slice" in url and "cor=512.35&" in url for url in asked)
    expect(page.locator("#label-a")).to_have_text("COR 512.35")
    page.keyboard.press("Enter")
    expect(row(page, "bone_001")).to_contain_text("512.35 ✎")
    assert read_cells(folder / "scans.tsv")["bone_001"]["cor_px"] == "512.35"


def test_a_comma_before_two_decimals_is_a_point_and_before_three_digits_refused(page, folder):
    page.keyboard.type("1,024")  # perhaps 1024
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("such as 1024.50; got '1,024'")
    assert "bone_001" not in read_cells(folder / "scans.tsv")
    page.keyboard.press("Escape")
    exact(page, "511.65")
    page.keyboard.type("512,35")
    exact(page, "512.35")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("bone_001: 512.35 px, in the table")
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


def _fill(page, **values):
    for name, value in values.items():
        page.get_by_label(name.replace("_", " "), exact=True).fill(str(value))
        page.keyboard.press("Tab")


def test_measured_on_a_slice_written_into_the_configuration_and_saved(folder, serve, visit):
    config = folder / "config.yaml"
    config.write_text(f"{config.read_text()}export_star: {{pixel_size_um: 0.5}}  # of the lens\n")
    page = visit(serve(folder))
    row(page, "bone_001").click()
    exact(page, "511.65")
    out = page.locator("#measure [role=status]")

    # a line that is dragged: as it was drawn, while its chart opens
    page.keyboard.press("q")
    picture = page.locator("#picture").bounding_box()
    x, y = picture["x"] + picture["width"] / 2 - 100, picture["y"] + picture["height"] / 3
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 200, y, steps=8)
    page.mouse.up()
    expect(page.locator("#measure polyline")).to_be_visible()
    ends = [
        page.get_by_label(f"{axis} {end}", exact=True) for axis in "xy" for end in ("from", "to")
    ]
    x_from, x_to, y_from, y_to = (float(end.input_value()) for end in ends)
    assert y_to == pytest.approx(y_from, abs=0.5)
    # screen pixels of a detector pixel: the slice is fitted
    assert x_to - x_from == pytest.approx(200 / (0.98 * picture["height"] / 1024), rel=0.01)
    assert page.locator("#picture").bounding_box() == picture

    # a profile through the bead: its value, over a length in both units
    page.keyboard.press("Escape")
    page.keyboard.press("q")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(page.get_by_label("x from", exact=True)).to_be_focused()
    x, y = BEAD_PX[0] + TRUE_COR_PX, BEAD_PX[1] + TRUE_COR_PX
    _fill(page, x_from=x - 30, y_from=y, x_to=x + 30, y_to=y, width=5)
    expect(out).to_contain_text("60.0 px, 30 µm; ")
    highest = float(re.search(r" to (\S+), mean", out.text_content())[1])
    assert highest == pytest.approx(0.01, rel=0.1)
    points = page.locator("#measure polyline").get_attribute("points").split()
    at = [tuple(map(float, point.split(","))) for point in points]
    middle = (min(y for _, y in at) + max(y for _, y in at)) / 2
    inside = [x for x, y in at if y < middle]
    width_px = 60 * (max(inside) - min(inside)) / (at[-1][0] - at[0][0])
    assert width_px == pytest.approx(24, abs=2)  # the bead's diameter

    # percentiles of its inside are its value, and what volumes can store
    page.keyboard.press("Escape")
    page.keyboard.press("R")
    _fill(page, x_first=int(x - 6), x_last=int(x + 6), y_first=int(y - 6), y_last=int(y + 6))
    expect(out).to_contain_text(f"13 × 13 × 512 px; 6.5 × 6.5 × 256 µm; crop_x: [{int(x - 6)}, ")
    page.keyboard.press("Escape")
    page.keyboard.press("h")
    _fill(page, lower_percentile=50)
    low = float(out.text_content().split(" to ")[0])
    assert low == pytest.approx(0.01, rel=0.1)
    page.get_by_role("button", name="Use as window").click()
    expect(page.locator("#measure")).to_contain_text("of the region")
    assert look(page, "tooFaint") == []
    assert look(page, "tooWide") <= 0

    # the change is shown, and then written: of this scan, and its comment stays
    page.keyboard.press("Escape")
    page.keyboard.press("R")
    before = config.read_text()
    page.get_by_role("button", name="Write crop").click()
    expect(page.locator("#change .added")).to_have_count(3)
    page.keyboard.press("Escape")
    expect(page.locator("#change")).to_have_count(0)
    assert config.read_text() == before
    page.get_by_role("button", name="Write crop").click()
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("#toast")).to_contain_text("In config.yaml")
    full = load_campaign(folder, config).for_scan("bone_001").config.full_recon
    assert (full.crop_x, full.rows) == ([int(x - 6), int(x + 6)], "all")
    assert config.read_text().startswith(before)

    # the bar of the saved picture is as long as it says
    page.keyboard.press("Escape")
    with page.expect_download() as saved:
        page.keyboard.press("S")
    assert saved.value.suggested_filename == "bone_001_slice_511.65.png"
    stated_um = float(re.search(r"bar of (\S+) µm", page.locator("#toast").text_content())[1])
    picture = np.asarray(Image.open(saved.value.path()).convert("L"), dtype=int)
    bar_px = np.count_nonzero(picture[-11, picture.shape[1] // 2 :] > 200)
    screen_px = 0.98 * min(picture.shape) / 1024  # of a pixel: the slice is fitted
    assert bar_px * 0.5 / screen_px == pytest.approx(stated_um, rel=0.02)


def test_rows_are_drawn_on_a_projection(page):
    page.keyboard.press("o")
    expect(page.locator("#mode")).to_have_text("0/180")
    handled(page)
    page.wait_for_selector("#stage[data-exact=yes]")
    page.keyboard.press("R")
    expect(page.get_by_label("rows first")).to_be_visible()
    expect(page.get_by_label("x first")).to_have_count(0)
    box = page.locator("#picture").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 20, middle[1] + 40, steps=3)
    page.mouse.up()
    assert int(page.get_by_label("rows first").input_value()) in (255, 256)  # of 512
    assert int(page.get_by_label("rows last").input_value()) > 270


def test_a_sweep_over_two_options_is_a_grid_and_two_of_it_side_by_side(folder, serve, visit):
    place = folder / "results/sweep/bone_001/full_recon.filter+preprocess.stripes.method"
    values = [["ramp", "hann"], ["none", "vo", "gated"]]
    labels = [f"{one} {other}" for one in values[0] for other in values[1]]
    images = [np.full((40, 50), number, np.float32) for number in range(6)]
    place.mkdir(parents=True)
    write_stack(images, labels, place / "sweep.tif", shape=(40, 50), dtype=np.float32)
    facts = {
        "keys": ["full_recon.filter", "preprocess.stripes.method"], "values": values, "row": 7,
        "cor_px": 511.65, "shape": [40, 50], "window": [0.0, 6.0], "pixel_size_um": 2.0,
        "units": "per_pixel",
    }  # fmt: skip
    write_json(facts, place / "sweep.json")
    page = visit(serve(folder))
    page.keyboard.press("v")
    page.keyboard.press("v")
    canvas = page.locator("#sweep-picture")
    names = "; ".join(f"filter {a}, method {b}" for a in values[0] for b in values[1])
    expect(canvas).to_have_attribute("data-shown", names)

    def greys(n_columns, n_rows):
        return canvas.evaluate(
            """(canvas, [columns, rows]) => Array.from({ length: columns * rows }, (_, n) => {
              const [x, y] = [(n % columns) + 0.5, Math.floor(n / columns) + 0.5];
              const at = [(canvas.width * x) / columns, (canvas.height * y) / rows];
              return canvas.getContext("2d").getImageData(...at, 1, 1).data[0];
            })""",
            [n_columns, n_rows],
        )

    assert greys(3, 2) == pytest.approx([255 * n / 6 for n in range(6)], abs=2)
    page.keyboard.press("s")
    page.keyboard.press("ArrowRight")
    expect(canvas).to_have_attribute(
        "data-shown", "A  filter ramp, method vo; B  filter hann, method vo"
    )
    expect(page.locator("#sweep-value")).to_have_text("vo")
    assert greys(2, 1) == pytest.approx([255 * n / 6 for n in (1, 4)], abs=2)
    page.keyboard.press("q")
    _fill(page, x_from=5, y_from=20, x_to=45, y_to=20)
    expect(page.locator("#sweep-measure [role=status]")).to_contain_text(
        re.compile(r"^40\.0 px, 80 µm; 1\S* to 4\S*, mean 2\.5")
    )
    assert page.locator("#sweep-measure polyline").count() == 2
    page.get_by_label("Slider of").select_option("full_recon.filter")
    expect(canvas).to_have_attribute("data-shown", re.compile("^A  filter ramp, method none; B"))
    for size in ((820, 1180), (1920, 1080)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        assert look(page, "tooFaint") == []
        assert look(page, "tooWide") <= 0
        assert canvas.bounding_box()["height"] > 0.4 * size[1]
