"""The review page: what it shows, to everybody."""

import json
import re
import time

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Server, go_to, handled, look, row
from tests.report_campaign import INVENTORY, NASTY, Made, large
from tests.review_campaign import make_campaign, write_pictures
from tomopipe.campaign.table import edit_table

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A server of a campaign that no test changes, with a file that cannot be read."""
    folder = make_campaign(tmp_path_factory.mktemp("shown"))
    (folder / "results" / "try_center" / "bone_005" / "prediction.json").write_text("{")
    with Server(folder) as server:
        yield server


def test_a_scan_named_as_a_script_tag_is_shown_harmlessly(folder, serve, visit):
    write_pictures(folder, NASTY, 500.25)
    page = visit(serve(folder))
    go_to(page, NASTY)
    expect(page.locator("#facts")).to_contain_text("<b>out of memory</b>")
    page.wait_for_selector("#stage[data-cor='500.25']")
    page.get_by_role("button", name="Series").click()
    page.wait_for_selector("#series > h3")
    expect(page.locator("#series-name")).to_have_value(NASTY)
    assert page.locator("img:not(.thumb)").count() == 0
    assert page.locator("script").count() == 1


def test_a_browser_of_some_years_ago_shows_slices_and_finds_the_server_again(folder, serve, visit):
    """As of Firefox 98: no canvas without a page, no signal that ends by itself."""
    page = visit(serve(folder))
    page.add_init_script("delete window.OffscreenCanvas; delete AbortSignal.timeout")
    page.reload()
    page.wait_for_selector("#stage[data-exact=yes]")
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_be_hidden()


def test_a_character_that_turns_text_around_is_shown_instead(folder, serve, visit):
    path = folder / "results/try_center/bone_006/prediction.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reason": "two\u202epeaks"}))
    page = visit(serve(folder))
    go_to(page, "bone_006")
    expect(page.locator("#facts")).to_contain_text("two\ufffdpeaks")
    page.goto(f"{page.url.partition('#')[0]}#scan=a%E2%80%AEb")
    expect(page.locator("#toast")).to_contain_text("The address names a\ufffdb: there is no such")


def test_a_cor_of_the_table_that_cannot_be_read_is_named_at_its_scan(folder, serve, visit):
    edit_table(folder / "scans.tsv", {"bone_006": {"cor_px": "513,45"}})
    page = visit(serve(folder))
    go_to(page, "bone_006")
    expect(page.locator("#facts .why").last).to_have_text(
        "manual COR '513,45' is not a number, ignored"
    )
    expect(page.locator("#facts .big")).to_contain_text("513.45 px")
    expect(row(page, "bone_006")).to_contain_text("'513,45' is not a number")


def test_the_scores_fit_their_place_after_the_window_was_resized(folder, serve, visit):
    page = visit(serve(folder))
    go_to(page, "bone_006")
    page.wait_for_selector("#scores [role=img]")
    dashes = "(curves) => curves.map((curve) => getComputedStyle(curve).strokeDasharray)"
    assert len(set(page.locator("#scores .curve").evaluate_all(dashes))) == 2  # without colour
    for width in (1900, 900):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_function(
            """() => {
                const place = scores.getBoundingClientRect();
                const [plot, legend] = [...scores.children].map((e) => e.getBoundingClientRect());
                const height = legend.bottom - plot.top;
                const isNear = (a, b) => Math.abs(a - b) < 3;
                return isNear(place.width, plot.width) && isNear(place.height, height);
            }"""
        )


def test_filter_search_and_group(folder, serve, visit):
    page = visit(serve(folder))
    expect(page.locator("#rows .row")).to_have_count(13)
    expect(page.locator("#rows .row .name").first).to_have_text("wood_1")
    name = re.compile("^bone_006, fixed, 513.45 px, ")
    expect(row(page, "bone_006")).to_have_accessible_name(name)
    page.locator("#filters .chip[data-state=ok]").click()
    expect(row(page, "bone_001")).to_have_count(0)
    page.locator("#filters .chip[data-state=ok]").click()
    page.keyboard.press("/")
    page.keyboard.type("knochen")
    expect(page.locator("#rows .row")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#search")).to_have_value("")
    expect(page.locator("#rows .row")).to_have_count(13)
    page.locator("#group").select_option("series")
    expect(page.locator("#rows .row.head").first).to_be_visible()
    page.locator("#group").blur()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_contain_text("accept the COR")


def test_enter_visits_no_scan_twice_and_says_that_it_was_the_last(folder, serve, visit):
    page = visit(serve(folder))
    row(page, "bone_003").click()
    for scan, cor, after in (
        ("bone_003", "512.45", ""),
        ("bone_001", "511.65", "; all after it are decided"),
        ("bone_001", "511.65", "; all after it are decided"),
    ):
        expect(page.locator("#facts h2")).to_have_text(scan)
        expect(page.locator("#cor")).to_have_value(cor)
        page.keyboard.press("Enter")
        expect(page.locator("#toast")).to_have_text(f"{scan}: {cor} px, in the table{after}")
        expect(row(page, scan)).to_contain_text("✎")
    expect(page.locator("#facts h2")).to_have_text("bone_001")


def test_the_page_follows_the_system_from_dark_to_light(shown, visit):
    page = visit(shown, color_scheme="dark")
    root = page.locator("html")
    expect(root).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-theme", "light")
    page.locator("#theme").click()
    page.emulate_media(color_scheme="dark")
    page.emulate_media(color_scheme="light")
    expect(root).to_have_attribute("data-theme", "dark")


def test_a_click_on_a_row_that_is_drawn_anew_meanwhile_opens_its_scan(shown, visit):
    page = visit(shown)
    expect(page.locator("#facts h2")).to_have_text("wood_1")
    row(page, "bone_001").hover()
    page.mouse.down()
    page.locator("#group").dispatch_event("change")
    page.mouse.up()
    expect(page.locator("#facts h2")).to_have_text("bone_001")


def test_a_file_that_is_no_scan_says_why_in_full_on_a_click(folder, serve, visit):
    why = (
        "its name is that of raw/day1/bone_001.h5, too: rename one, or take it out of the campaign"
    )
    refused = {"scan": "bone_x", "path": "raw/day2/bone_x.h5", "index": 0, "keep": "false"}
    cells = dict.fromkeys(INVENTORY, "") | refused | {"reason": why}
    with (folder / "results/inventory.tsv").open("a") as stream:
        stream.write("\t".join(map(str, cells.values())) + "\n")
    page = visit(serve(folder))
    shown = page.locator("#facts h2").inner_text()
    row(page, "bone_x").click()
    expect(page.locator("#toast")).to_have_text(why)
    expect(page.locator("#facts h2")).to_have_text(shown)


def views(page):
    """Show one view of the page after the other."""
    row(page, "bone_001").click()
    # its own COR: the page shows a scan by itself at first, whose B would go with it
    page.wait_for_selector("#stage[data-cor='511.65']")
    page.keyboard.press("b")
    page.keyboard.press("s")
    expect(page.locator("#label-b")).to_contain_text("B")
    yield "scan"
    go_to(page, NASTY)
    yield "a failed scan"
    page.get_by_role("button", name="Series").click()
    page.locator("#series-name").select_option("bone")
    expect(page.locator("#series-plot g.point").first).to_be_visible()
    yield "series"
    page.get_by_role("button", name="Next run").click()
    expect(page.locator("#plan-body")).not_to_be_empty()
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
    expect(page.locator("#notes")).to_contain_text("bone_005/prediction.json: is damaged")
    page.locator("#filters .chip[data-state=manual]").click()
    for view in views(page):
        assert look(page, "tooFaint") == [], view
        assert look(page, "nameless") == [], view


def test_nothing_sticks_out(shown, visit):
    page = visit(shown)
    for view in views(page):
        for width, height in ((2560, 1440), (820, 1180), (400, 800), (1280, 800)):
            page.set_viewport_size({"width": width, "height": height})
            assert look(page, "tooWide") <= 0, (view, width)
            assert width == 400 or look(page, "cut") == [], (view, width)  # there a table scrolls


def test_after_the_help_the_next_enter_is_for_the_scan(shown, visit):
    page = visit(shown)
    page.locator("#help-button").click()
    page.locator("#help-close").click()
    expect(page.locator("#help")).to_be_hidden()
    assert page.evaluate("document.activeElement === document.body")
    page.locator("#help-button").focus()  # by keyboard the focus comes back
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator("#help-button")).to_be_focused()


def test_a_cor_by_hand_has_one_line_in_its_series(folder, serve, visit):
    by_hand = {f"bone_00{number}": {"cor_px": "512.00"} for number in range(1, 5)}
    edit_table(folder / "scans.tsv", by_hand)
    page = visit(serve(folder))
    go_to(page, "bone_001")
    sources = page.locator("#facts td.of ~ td.quiet")
    expect(sources).to_have_text(["by hand"] * 4)
    assert sources.first.bounding_box()["height"] < 35  # px; two lines have 42


def test_a_thumbnail_that_cannot_be_made_is_asked_for_once(folder, serve, visit):
    edit_table(folder / "scans.tsv", {"bone_005": {"cor_px": "500.00"}})  # off its sweep, no rows
    page = visit(serve(folder))
    address, tried = page.url, []
    page.goto("about:blank")  # answers to the first visit may come late
    page.on("response", lambda answer: "cor=500.00" in answer.url and tried.append(answer.status))
    with page.expect_response("**cor=500.00**"):
        page.goto(address)
    for _ in range(3):
        page.keyboard.press("y")  # draws all rows
        page.wait_for_load_state("networkidle")
    assert tried == [422]


@pytest.mark.parametrize(("width", "height"), [(853, 533), (1024, 700)])
def test_menu_strip_and_help_are_whole_in_a_small_window(shown, visit, width, height):
    page = visit(shown, viewport={"width": width, "height": height})
    go_to(page, "bone_001")
    crop = page.locator("#strip .crop[aria-pressed=true]")
    expect(crop).to_be_visible()
    box = crop.bounding_box()
    assert box["y"] + box["height"] <= page.locator("#controls").bounding_box()["y"]
    page.keyboard.press("a")
    expect(page.locator("#mode-slice")).to_be_in_viewport(ratio=1)
    expect(page.locator("#minus")).to_be_in_viewport(ratio=1)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#keys dt").first).to_be_in_viewport(ratio=1)


def test_the_focus_is_seen_wherever_it_goes(shown, visit):
    page = visit(shown)
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor]")
    page.locator("#campaign").click()  # where the way through the page begins
    page.keyboard.press("a")
    expect(page.locator("#mode-slice")).to_be_focused()
    page.locator("#campaign").click()  # closes the menu
    expect(page.locator("#pin")).to_be_hidden()
    met = []
    for _ in range(60):
        if met[-1:] == ["menu-button"]:
            page.keyboard.press("Enter")  # opens it
        page.keyboard.press("Tab")
        handled(page)
        focus = look(page, "outline")
        if focus["body"]:
            break
        assert focus["width"] >= 2, focus
        assert focus["contrast"] >= 3, focus
        met.append(focus["name"])
    assert {"search", "group", "list", "slider", "cor", "accept", "undo", "mode-rows"} <= set(met)
    assert {"pin", "select", "note", "stamp"} <= set(met)


@pytest.mark.parametrize(
    ("width", "height", "scheme"),
    [(820, 1180, "dark"), (1366, 768, "light"), (1440, 900, "dark"), (1920, 1080, "light")],
)
def test_the_picture_has_most_of_the_height_and_its_controls_one_row(
    shown, visit, width, height, scheme
):
    page = visit(shown, viewport={"width": width, "height": height}, color_scheme=scheme)
    row(page, "bone_001").click()
    page.wait_for_selector(".crop[aria-pressed=true] canvas")
    stage = page.locator("#stage").bounding_box()
    share = 0.6 if width > 1100 else 0.45  # below 1100 px the facts lie under it
    assert stage["height"] >= share * height
    controls = page.locator("#controls").bounding_box()
    assert controls["height"] < 60
    assert controls["y"] + controls["height"] <= height
    middles = page.locator("#controls > *").evaluate_all(
        "(nodes) => nodes.map((n) => n.getBoundingClientRect()).map((r) => r.y + r.height / 2)"
    )
    assert max(middles) - min(middles) < 3
    page.keyboard.press("a")
    for key, button in (("t", "mode-slice"), ("m", "minus")):
        expect(page.locator(f"#{button} kbd")).to_have_text(key)
        expect(page.locator(f"#{button}")).to_be_visible()
        box = page.locator(f"#{button}").bounding_box()
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= width
    assert look(page, "tooWide") <= 0
    assert look(page, "tooFaint") == []
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#mode")).to_have_text("Rows")
    page.keyboard.press("Escape")
    expect(page.locator("#minus")).to_be_hidden()


def test_nothing_moves_by_itself_where_motion_is_not_wanted(shown, visit):
    page = visit(shown, reduced_motion="reduce")
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor='511.65']")
    page.keyboard.press("b")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#stage[data-cor='512.65'][data-exact=yes]")
    page.keyboard.press(" ")
    shows_b = "() => document.getElementById('label-a').classList.contains('off')"
    expect(page.locator("#flicker")).to_have_attribute("aria-pressed", "true")
    time.sleep(1.2)  # it would have swapped twice
    assert not page.evaluate(shows_b)
    page.keyboard.press(" ")
    page.wait_for_function(shows_b)


@pytest.mark.parametrize("width", [820, 2560])
def test_the_end_of_a_long_name_is_seen(tmp_path, serve, visit, width):
    series = "long-name_of_a_sample_from_beamtime" * 5
    names = [f"{series}_{index:03d}" for index in range(1, 5)]
    made = Made(tmp_path)
    for index, name in enumerate(names, 1):
        made.scan(name, series, index)
        made.predict(name, None, 0.0, "flat")
        made.fix(name, None, "511.25", "series-mean", series=series)
        made.resolve(name, 511.25, "series-mean")
    made.write()
    (tmp_path / "raw").mkdir()
    for name in names:
        (tmp_path / "raw" / f"{name}.h5").touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    page = visit(serve(tmp_path), viewport={"width": width, "height": 900})
    row(page, names[2]).click()
    expect(page.locator("#facts h2")).to_have_text(names[2])
    aside = page.locator("#facts").evaluate("(node) => node.scrollWidth - node.clientWidth")
    assert aside <= 0
    for place in ("#rows .name", "#facts .name"):
        shown = page.locator(place)
        expect(shown).to_have_text(names)
        assert (
            shown.evaluate_all(
                """(names) => names.filter((name) => {
                 const [head, end] = [...name.children].map((part) => part.getBoundingClientRect());
                 return head.width < 20 || end.right > name.getBoundingClientRect().right + 1;
               }).length"""
            )
            == 0
        )
    titles = page.locator("#facts td.of").evaluate_all("(cells) => cells.map((td) => td.title)")
    assert titles == names
    page.get_by_role("button", name="Series").click()
    expect(page.locator("#series-name")).to_be_visible()
    assert look(page, "cut") == []


def test_of_a_thousand_scans_the_rows_in_sight_are_painted(tmp_path, serve, visit):
    made = large(tmp_path, 1000, 0).write()
    (tmp_path / "raw").mkdir()
    for scan in made.scans.values():
        (tmp_path / scan.path).touch()
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    page = visit(serve(tmp_path))
    expect(page.locator("#filters")).to_contain_text("doubtful")
    assert page.locator("#rows .row").count() < 60
