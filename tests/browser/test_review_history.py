"""The history of decisions on the page, several scans at once, and the link to what is shown."""

import re
from functools import partial

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import go_to, look, row
from tomopipe.campaign.table import edit_table
from tomopipe.commands.history import record_changes
from tomopipe.review.queue import read_cells

pytestmark = pytest.mark.browser


def cors(folder):
    return {scan: row["cor_px"] for scan, row in read_cells(folder / "scans.tsv").items()}


def decide(page, scan, cor):
    go_to(page, scan)
    page.keyboard.type(cor)
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text(f"{scan}: {cor} px, in the table")


def test_decisions_are_taken_back_after_a_reload_and_by_a_later_server(folder, serve, visit):
    before = cors(folder)
    page = visit(serve(folder))
    decide(page, "bone_007", "512.50")
    decide(page, "bone_006", "512.25")
    page.reload()
    page.wait_for_selector(".row[data-scan]")
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_have_text("bone_006: as before")
    history = page.locator("#history tr")
    expect(history).to_have_count(2)
    expect(history.first).to_contain_text("512.25 → – (undo)")
    expect(history.last).to_contain_text("– → 512.25")
    assert cors(folder) == before | {"bone_006": "", "bone_007": "512.50"}
    later = visit(serve(folder))
    later.keyboard.press("u")
    expect(later.locator("#toast")).to_have_text("bone_007: as before")
    later.keyboard.press("u")
    expect(later.locator("#toast")).to_have_text("Nothing to undo.")
    assert cors(folder) == before | {"bone_006": ""}


def test_an_undo_asks_where_someone_else_changed_the_row_since(folder, serve, visit):
    page = visit(serve(folder))
    decide(page, "bone_007", "512.50")
    decide(page, "bone_006", "512.25")
    edit_table(folder / "scans.tsv", {"bone_006": {"cor_px": "500.00"}})
    page.reload()
    page.wait_for_selector(".row[data-scan]")
    page.keyboard.press("u")
    expect(page.locator("#conflict-body")).to_contain_text("500.00")
    page.get_by_role("button", name="Keep what is there").click()
    expect(row(page, "bone_006")).to_contain_text("500.00 ✎")
    assert cors(folder)["bone_006"] == "500.00"
    page.keyboard.press("u")  # what was kept is not asked about again
    expect(page.locator("#toast")).to_have_text("bone_007: as before")
    page.reload()
    page.wait_for_selector(".row[data-scan]")
    page.keyboard.press("u")
    page.get_by_role("button", name="Write mine").click()
    expect(page.locator("#toast")).to_have_text("bone_006: as before")
    assert cors(folder) == {"bone_007": "513.65", "bone_010": "", "bone_006": ""}


def test_one_cor_for_ticked_scans_and_one_undo(folder, serve, visit):
    before = cors(folder)
    page = visit(serve(folder))
    requests = []
    page.on("request", lambda request: requests.append(request.method))
    page.locator("#group").select_option("series")
    page.locator("#group").blur()
    go_to(page, "bone_005")
    page.keyboard.press("y")
    bar = page.locator("#ticked")
    expect(bar).to_contain_text("1 ticked")
    page.get_by_label("tick bone_007").click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 ticked")
    page.get_by_label("tick bone_007").click()
    page.get_by_label("tick bone_008").click()
    page.locator("#search").fill("wood_1")
    expect(bar).to_contain_text("3 ticked, 3 not shown")
    page.locator("#search").fill("")
    expect(page.locator("#facts h2")).to_have_text("bone_005")  # a tick opens nothing
    box, toast = page.locator("#ticked-cor"), page.locator("#toast")
    box.fill("4000")
    box.press("Enter")
    expect(toast).to_contain_text("bone_008: COR 4000.00 is off the detector")
    expect(toast).to_contain_text("None of the 3 decisions was written.")
    assert cors(folder) == before
    requests.clear()
    box.fill("513,2")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(toast).to_have_text("3 scans: 513.2 px, in the table. u undoes it")
    expect(bar).to_be_hidden()
    assert requests.count("POST") == 1
    names = ("bone_005", "bone_006", "bone_008")
    assert cors(folder) == before | dict.fromkeys(names, "513.20")
    expect(page.locator("#facts .big")).to_have_text("513.20 px by hand")
    page.keyboard.press("u")
    expect(toast).to_have_text("3 scans: as before")
    assert cors(folder) == before | dict.fromkeys(names, "")
    expect(page.locator("#history tr")).to_have_count(2)
    page.keyboard.press("u")
    expect(toast).to_have_text("Nothing to undo.")
    for key in ("y", "y"):
        page.keyboard.press(key)
    expect(bar).to_be_hidden()


def test_a_row_that_is_drawn_anew_while_it_is_pressed_takes_the_click(folder, serve, visit):
    page = visit(serve(folder))
    for target in (page.get_by_label("tick bone_007"), row(page, "bone_005")):
        target.hover()
        page.mouse.down()
        page.evaluate("document.getElementById('list').dispatchEvent(new Event('scroll'))")
        page.mouse.up()
    expect(page.get_by_label("tick bone_007")).to_be_checked()
    expect(page.locator("#facts h2")).to_have_text("bone_005")
    page.keyboard.press("y")
    expect(page.locator("#ticked")).to_contain_text("2 ticked")


def test_ticks_stay_while_the_network_is_gone(folder, serve, visit):
    page = visit(serve(folder))
    page.get_by_label("tick bone_006").click()
    page.locator("#ticked-cor").fill("512")
    page.context.set_offline(True)
    expect(page.locator("#connection")).to_be_visible()
    expect(page.locator("#ticked-set")).to_be_disabled()
    page.locator("#ticked-cor").press("Enter")
    page.context.set_offline(False)
    expect(page.locator("#connection")).to_be_hidden()
    assert "bone_006" not in cors(folder)
    page.locator("#ticked-set").click()
    expect(page.locator("#toast")).to_contain_text("1 scan: 512 px, in the table")


def test_a_link_opens_the_scan_and_the_view_it_was_copied_from(folder, serve, visit):
    page = visit(serve(folder))
    row(page, "bone_001").click()
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    page.keyboard.press("g")
    expect(page.locator("#mode")).to_have_text("Sinogram")
    expect(page).to_have_url(re.compile("/#scan=bone_001&view=sinogram$"))
    link = page.url
    page.keyboard.press("j")
    expect(page.locator("#facts h2")).not_to_have_text("bone_001")
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator("#facts h2")).to_have_text("bone_001")
    expect(other.locator("#mode")).to_have_text("Sinogram")
    start = link.partition("#")[0]
    other.goto(f"{start}#scan=bone_006&view=slice")  # where candidates are shown at first
    expect(other.locator("#facts h2")).to_have_text("bone_006")
    expect(other.locator("#mode-slice")).to_have_attribute("aria-pressed", "true")
    other.get_by_role("button", name="Series").click()
    expect(other).to_have_url(re.compile("#scan=bone_006&view=series$"))
    other.reload()
    expect(other.locator("#series-plot g.point.here")).to_have_count(1)
    expect(other.locator("#rows [aria-selected=true]")).to_have_attribute("data-scan", "bone_006")
    other.goto(f"{start}#scan=bone_9&view=slice")
    expect(other.locator("#toast")).to_contain_text("names bone_9: there is no such scan")
    expect(other.locator("#facts h2")).to_have_text("bone_006")


@pytest.mark.parametrize(("width", "height", "scheme"), [(820, 1180, "dark"), (1366, 768, "light")])
def test_ticks_and_history_fit_and_can_be_read(folder, serve, visit, width, height, scheme):
    table = folder / "scans.tsv"
    then = partial(record_changes, table=table, by="page", tell=pytest.fail)
    for number in range(6):
        edit_table(table, {"bone_006": {"cor_px": f"51{number}.00"}}, then)
    page = visit(serve(folder), viewport={"width": width, "height": height}, color_scheme=scheme)
    row(page, "bone_006").click()
    expect(page.locator("#history tr")).to_have_count(5)
    expect(page.locator("#facts")).to_contain_text("1 earlier")
    for name in ("bone_005", "bone_007", "wood_1"):
        page.get_by_label(f"tick {name}").click()
    page.locator("#history").scroll_into_view_if_needed()
    assert look(page, "tooWide") <= 0
    assert look(page, "tooFaint") == []
    assert look(page, "nameless") == []
    for place in ("#queue", "#facts"):
        assert page.locator(place).evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0
    controls = page.locator("#controls").bounding_box()
    assert controls["y"] + controls["height"] <= height
