"""A volume in the browser: three planes, averages first, then voxels."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Server, go_to, handled, hold, look, row
from tests.review_campaign import make_campaign
from tomopipe.cli.pages import report as write_report
from tomopipe.volumes.preview import level_shapes
from tomopipe.volumes.volume import new_volume

pytestmark = pytest.mark.browser
SHAPE = (256, 260, 270)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A campaign with a volume that is just large enough for a preview; z is its grey value."""
    made = make_campaign(tmp_path_factory.mktemp("campaign"))
    assert level_shapes(SHAPE, 4)
    path = made / "results/wood_1_rec.h5"
    path.unlink(missing_ok=True)
    # fmt: off
    notes = {
        "attributes": {"voxel_size_um": 1.5, "binning": 2},
        "provenance": {
            "versions": {"tomopipe": "1"},
            "made_from": '{"step": "full_recon"}',
            "geometry": {
                "n_cols": 560, "half_acquisition": False, "rows": [100, 611],
                "axis_voxel_xy": [270.0, 260.0], "first_voxel_xy": [10, 20],
            },
        },
    }
    # fmt: on
    with new_volume(path, SHAPE, **notes) as put:
        for row in range(SHAPE[0]):
            put(row, np.full((1, *SHAPE[1:]), row, np.float32))
    other = made / "results/bone_002_rec.h5"  # of a scan without a sweep
    other.unlink(missing_ok=True)
    with new_volume(other, (8, 40, 50), **notes) as put:
        put(0, np.add.outer(np.arange(8), np.eye(40, 50)).astype(np.float32))
    return made


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder) as server:
        yield server


def open_volume(visit, server, **options):
    page = visit(server, **options)
    page.locator("#search").fill("wood_1")
    page.locator("#rows .row").first.click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Volume").click()
    return opened.value


def test_a_link_whose_scan_is_read_again_while_it_is_pressed_leads_there(server, visit):
    page = visit(server)
    go_to(page, "wood_1")
    waiting = hold(page, "**/api/scan?*")
    with page.expect_request("**/api/scan?*"):
        row(page, "wood_1").click()
    page.get_by_role("link", name="Volume").hover()
    page.mouse.down()
    with page.expect_response("**/api/scan?*"):
        waiting.release()
    page.wait_for_timeout(200)  # ms, until the page has read it
    with page.context.expect_page() as opened:
        page.mouse.up()
    assert opened.value.url.endswith("#wood_1")


def test_planes_come_as_averages_then_as_voxels_and_yz_when_asked(server, visit):
    page = open_volume(visit, server)
    canvas = {name: page.get_by_label(f"Plane {name}", exact=True) for name in ("xy", "xz", "yz")}
    expect(page.locator("#about")).to_contain_text("270 × 260 × 256, voxel 1.500 µm")
    expect(canvas["xy"]).to_have_attribute("data-factor", "1")
    expect(canvas["xz"]).to_have_attribute("data-factor", "1")
    expect(canvas["yz"]).to_have_attribute("data-factor", "4")
    full = page.get_by_role("button", name="Full resolution")
    expect(full.nth(0)).to_be_disabled()
    full.nth(2).click()
    expect(canvas["yz"]).to_have_attribute("data-factor", "1")
    expect(full.nth(2)).to_be_disabled()
    canvas["xy"].hover()
    expect(page.get_by_label("xy", exact=True).locator(".label")).to_have_text(
        re.compile(r"^x 13[45], y (129|130), z 128: 128 ")
    )
    # dark above, bright below; a click low in xz goes to a high row
    box = canvas["xz"].bounding_box()
    canvas["xz"].click(position={"x": box["width"] / 2, "y": box["height"] * 0.6})
    row = page.get_by_label("Position of xy")
    expect(row).not_to_have_value("128")
    assert int(row.input_value()) > 128
    middle = "c.getContext('2d').getImageData(c.width / 2 + 9, c.height / 2 + 9, 1, 1).data[0]"
    page.wait_for_function(f"c => {middle} > 128", arg=canvas["xy"].element_handle())


def test_of_a_scan_without_a_sweep_the_slice_of_its_volume_is_shown(server, visit):
    page = visit(server)
    go_to(page, "bone_002")
    page.wait_for_selector("#stage[data-exact=yes]")
    expect(page.locator("#nothing")).to_be_hidden()
    expect(page.locator("#label-a")).to_have_text(re.compile(r"^COR 512\.\d\d$"))
    page.keyboard.press("q")
    for name, value in {"x from": 0, "y from": 41, "x to": 99, "y to": 41}.items():
        page.get_by_label(name, exact=True).fill(str(value))
        page.keyboard.press("Tab")
    # voxels of 2 x 2 pixels; the diagonal is brighter by 1
    expect(page.locator("#measure [role=status]")).to_contain_text(
        re.compile(r"^99\.0 px\D.* 7 to 8, mean 7\.0")
    )
    assert look(page, "tooFaint") == []


def test_view_opens_the_volume_of_a_scan(serve, visit, folder):
    page = visit(serve(folder, "wood_1.h5", command="view"), ready="#about")
    expect(page.locator("#about")).to_contain_text("270 × 260 × 256, voxel 1.500 µm")
    assert re.search(r"/volume\.html#wood_1$", page.url)


def test_the_voxel_under_the_pointer_stays_there_while_zooming_and_goes_with_the_hand(
    server, visit
):
    page = open_volume(visit, server)
    canvas = page.get_by_label("Plane xy", exact=True)
    expect(canvas).to_have_attribute("data-factor", "1")
    box = canvas.bounding_box()
    label = page.get_by_label("xy", exact=True).locator(".label")

    def voxel(x, y):
        page.mouse.move(box["x"] + x, box["y"] + y)
        handled(page)
        return [int(n) for n in re.match(r"x (\d+), y (\d+)", label.text_content()).groups()]

    x, y = box["width"] * 0.4, box["height"] * 0.45
    before = voxel(x, y)
    across = [voxel(x + 40, y)[0] - before[0]]
    voxel(x, y)
    page.mouse.wheel(0, -600)  # closer
    handled(page)
    assert np.abs(np.subtract(voxel(x, y), before)).max() <= 1
    across.append(voxel(x + 40, y)[0] - before[0])
    assert across[0] > 1.5 * across[1] > 0
    voxel(x, y)
    page.mouse.down()
    page.mouse.move(box["x"] + x + 50, box["y"] + y + 30, steps=4)
    page.mouse.up()
    assert (
        np.abs(np.subtract(voxel(x + 50, y + 30), before)).max() <= 2
    )  # the first 4 px are a click


def test_the_planes_fill_a_window_that_grows(server, visit):
    page = open_volume(visit, server, viewport={"width": 1000, "height": 800})
    canvas = page.get_by_label("Plane xy", exact=True)
    expect(canvas).to_have_attribute("data-factor", "1")
    page.set_viewport_size({"width": 1600, "height": 1000})
    edge = "c.getContext('2d').getImageData(8, c.height / 2, 1, 1).data[3]"
    page.wait_for_function(f"c => c.width > 500 && {edge} === 255", arg=canvas.element_handle())


def test_a_volume_leads_back_to_its_scan_and_one_that_is_not_there_shows_no_tools(server, visit):
    page = open_volume(visit, server)
    expect(page.get_by_label("black")).to_be_visible()
    page.get_by_role("link", name="Scan").click()
    expect(page.locator("#facts h2")).to_have_text("wood_1")
    page.goto(page.url.split("#")[0] + "volume.html#wood_2")
    expect(page.locator("#panes")).to_contain_text("no scan wood_2")
    expect(page.get_by_label("black")).to_be_hidden()


def test_what_is_measured_in_a_volume_is_in_detector_pixels_of_its_scan(server, visit, folder):
    page = open_volume(visit, server)
    xz = page.get_by_label("Plane xz", exact=True)
    expect(xz).to_have_attribute("data-factor", "1")
    out = page.locator("#measure [role=status]")

    def fill(**values):
        for name, value in values.items():
            page.get_by_label(name.replace("_", " "), exact=True).fill(str(value))
            page.keyboard.press("Tab")

    # along z, where the grey value is the row
    xz.focus()
    page.get_by_role("button", name="Profile").press("Enter")
    fill(x_from=30, y_from=20.5, x_to=30, y_to=120.5)
    expect(out).to_contain_text(re.compile(r"^100\.0 px, 150 µm; 20\S* to 120\S*, mean 70"))
    page.get_by_role("button", name="Histogram").press("Enter")
    fill(lower_percentile=25)
    expect(out).to_contain_text(re.compile(r"^6[34]\S* to 25[45]"))
    page.get_by_role("button", name="Region").press("Enter")
    fill(x_first=5, x_last=9, rows_first=3, rows_last=4)
    # voxels of 2 x 2 pixels, of a volume that was cropped already
    expect(out).to_contain_text("crop_x: [30, 39], rows: [106, 109]")
    page.get_by_role("button", name="Write crop").press("Enter")
    expect(page.locator("#change .added").last).to_contain_text("crop_x: [30, 39]")
    page.get_by_role("button", name="Cancel").press("Enter")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save PNG").press("Enter")
    assert saved.value.suggested_filename == "wood_1_xz_130.png"
    assert look(page, "tooFaint") == []
    assert look(page, "tooWide") <= 0


@pytest.mark.parametrize(("width", "height"), [(820, 1180), (1440, 900)])
def test_each_plane_has_room_and_the_name_is_whole(server, visit, width, height):
    page = open_volume(visit, server, viewport={"width": width, "height": height})
    for name in ("xy", "xz", "yz"):
        canvas = page.get_by_label(f"Plane {name}", exact=True)
        expect(canvas).to_have_attribute("data-factor", re.compile("[14]"))
        box = canvas.bounding_box()
        assert box["height"] > 0.4 * height
        assert box["width"] > 0.3 * width
    cut = "one => one.scrollWidth > one.clientWidth"
    expect(page.locator("#name")).to_have_text("wood_1_rec.h5")
    assert not page.locator("#name").evaluate(cut)


def test_the_report_leads_to_a_volume_where_review_serves_it_and_says_so_else(
    server, visit, folder, chromium
):
    write_report(folder)
    page = visit(server)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report").click()
    report = opened.value
    card = report.locator(".card").filter(has=report.get_by_role("link", name="wood_1"))
    expect(report.locator(".no-viewer")).to_be_hidden()
    report.locator(".tile[data-state=manual]").click()  # its own script runs, and its style counts
    expect(report.locator("#shown")).to_contain_text("shown")
    with page.context.expect_page() as opened:
        card.get_by_role("link", name="Look through the volume").click()
    expect(opened.value.locator("#about")).to_contain_text("270 × 260 × 256")
    alone = chromium.new_page()
    alone.goto(f"file://{folder}/results/report/index.html")
    expect(alone.locator(".no-viewer")).to_contain_text("tomopipe review")
    expect(alone.get_by_role("link", name="Look through the volume")).to_have_count(0)
    alone.close()
