"""The review page where answers come late, out of order or never: nothing is lost or mixed up."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Held, cut, go_to, handled, hold, route, row
from tomopipe.campaign.table import edit_table
from tomopipe.review.queue import read_cells

pytestmark = pytest.mark.browser

SCAN, DECIDE = "**/api/scan?*", "**/api/decide"


@pytest.fixture
def page(folder, serve, visit):
    return visit(serve(folder))


def cells(folder, scan):
    return read_cells(folder / "scans.tsv").get(scan, {"select": "auto", "cor_px": "", "note": ""})


def exact(page, cor):
    page.wait_for_selector(f"#stage[data-cor='{cor}'][data-exact=yes]")


def decide(page, cor):
    page.keyboard.type(cor)
    page.keyboard.press("Enter")


def soon(page):
    """Give the page time to do what it should not."""
    page.evaluate("new Promise((done) => setTimeout(done, 100))")


def answered(page, held, address):
    """Let go what waits at an address, until its first answer has come and been read."""
    with page.expect_response(address) as answer:
        held.release()
    answer.value.finished()
    soon(page)


def test_a_note_is_not_lost_where_its_scan_is_read_again(page, folder):
    go_to(page, "bone_007")
    held = hold(page, SCAN)
    with page.expect_request(SCAN):
        page.locator("#select").select_option("yes")
    page.keyboard.press("n")
    page.keyboard.type(", two")
    answered(page, held, SCAN)
    page.keyboard.type(" pores")  # these letters are keys of the page, too
    expect(page.locator("#note")).to_have_value("by eye, two pores")
    page.keyboard.press("Escape")
    expect(page.locator("#history")).to_contain_text("by eye → by eye, two pores")
    assert cells(folder, "bone_007") == {
        "select": "yes", "cor_px": "513.65", "note": "by eye, two pores"
    }  # fmt: skip


def test_what_was_refused_is_sent_again_or_shown_as_before(page, folder):
    def refuse(route):
        decision = route.request.post_data_json["decisions"][0]
        route.fulfill(status=422, json={"error": f"the disk is full: {decision['cells']}"})

    go_to(page, "bone_007")
    before = cells(folder, "bone_007")
    toast, select = page.locator("#toast"), page.locator("#select")
    route(page, DECIDE, refuse, times=2)
    select.select_option("no")
    expect(toast).to_contain_text("the disk is full: {'select'")
    expect(select).to_have_value("auto")
    page.keyboard.press("n")
    page.keyboard.type(", two pores")
    page.keyboard.press("Enter")
    expect(toast).to_contain_text("the disk is full: {'note'")
    with page.expect_response(DECIDE):
        page.keyboard.press("Enter")
    assert cells(folder, "bone_007") == before | {"note": "by eye, two pores"}


def test_a_note_and_a_cor_that_is_removed_are_of_the_scan_in_sight(page, folder):
    edit_table(folder / "scans.tsv", {"bone_005": {"cor_px": "513.30", "note": "its own"}})
    page.reload()
    go_to(page, "bone_007")
    held = hold(page, SCAN)
    with page.expect_request(SCAN):
        row(page, "bone_005").click()
    page.keyboard.press("n")
    page.keyboard.type(", late")
    answered(page, held, SCAN)
    page.keyboard.type(" note")
    page.keyboard.press("Escape")
    expect(page.locator("#facts h2")).to_have_text("bone_005")
    expect(page.locator("#note")).to_have_value("its own")
    go_to(page, "bone_007")
    expect(page.locator("#note")).to_have_value("by eye, late note")
    held = hold(page, SCAN)
    with page.expect_request(SCAN):
        row(page, "bone_005").click()
    page.locator("#clear").hover()
    page.mouse.down()
    answered(page, held, SCAN)
    with page.expect_response(DECIDE):
        page.mouse.up()
    assert cells(folder, "bone_007")["cor_px"] == ""
    assert cells(folder, "bone_005")["cor_px"] == "513.30"


def test_a_note_of_somebody_else_is_asked_about(page, folder):
    go_to(page, "bone_007")
    page.keyboard.press("n")
    page.keyboard.type(", mine")
    edit_table(folder / "scans.tsv", {"bone_007": {"cor_px": "513.05", "note": "Bob"}})
    expect(row(page, "bone_007")).to_contain_text("513.05")
    page.keyboard.press("Escape")
    expect(page.locator("#conflict-body")).to_contain_text("note Bob")
    page.get_by_role("button", name="Keep what is there").click()
    expect(page.locator("#note")).to_have_value("Bob")
    assert cells(folder, "bone_007")["note"] == "Bob"


def test_a_cor_of_somebody_else_that_the_queue_shows_before_the_scan_is_asked_about(page, folder):
    go_to(page, "bone_006")
    exact(page, "513.45")
    held = hold(page, SCAN)
    edit_table(folder / "scans.tsv", {"bone_006": {"cor_px": "500.00"}})
    expect(row(page, "bone_006")).to_contain_text("500.00")
    page.keyboard.press("Enter")  # of the COR and the cells that are in sight
    expect(page.locator("#conflict-body")).to_contain_text("cor_px 500.00")
    page.get_by_role("button", name="Keep what is there").click()
    held.release()
    expect(page.locator("#facts .big")).to_have_text("500.00 px by hand")
    assert cells(folder, "bone_006")["cor_px"] == "500.00"
    page.keyboard.type("514.5")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("bone_006: 514.50 px, in the table")


def test_a_key_that_was_pressed_before_a_question_came_answers_it_not(page, folder):
    go_to(page, "bone_007")
    held = hold(page, DECIDE)
    decide(page, "512.5")
    edit_table(folder / "scans.tsv", {"bone_007": {"cor_px": "500.00"}})
    held.release()
    question = page.locator("#conflict")
    expect(question).to_be_visible()
    page.keyboard.press("Enter")
    page.keyboard.press("Space")
    soon(page)
    expect(question).to_be_visible()
    for _ in range(3):  # a browser closes it in the end
        page.keyboard.press("Escape")
    if question.is_visible():
        page.get_by_role("button", name="Keep what is there").click()
    go_to(page, "bone_005")
    decide(page, "512.5")
    expect(row(page, "bone_005")).to_contain_text("512.50 ✎")
    assert cells(folder, "bone_007")["cor_px"] == "500.00"


def test_a_cor_that_was_not_written_does_not_come_along_to_the_next_scan(page, folder):
    go_to(page, "bone_007")
    held = hold(page, DECIDE)
    decide(page, "512.5")
    edit_table(folder / "scans.tsv", {"bone_007": {"cor_px": "500.00"}})
    opening = hold(page, SCAN)
    with page.expect_request(SCAN):
        row(page, "bone_005").click()
    held.release()
    page.get_by_role("button", name="Keep what is there").click()
    expect(row(page, "bone_007")).to_contain_text("500.00 ✎")
    soon(page)
    opening.release()
    expect(page.locator("#facts h2")).to_have_text("bone_005")
    expect(page.locator("#cor")).to_have_value("513.25")


def test_an_answer_of_before_a_decision_makes_the_next_one_no_conflict(page, folder):
    go_to(page, "bone_007")
    began, stale, held = [], [], Held()

    def take(asked):  # one handler: a second one might be asked first
        began.append(asked)
        if len(began) == 1:
            stale.append((asked, asked.fetch()))
        else:
            held.keep(asked)  # what is asked for later

    route(page, SCAN, take)
    row(page, "bone_007").click()  # it is open already
    while not stale:
        page.wait_for_timeout(20)
    with page.expect_response(DECIDE):
        page.locator("#select").select_option("yes")
    asked, answer = stale.pop()
    asked.fulfill(response=answer)
    soon(page)
    decide(page, "512.5")
    held.release()
    expect(page.locator("#toast")).to_contain_text("bone_007: 512.50 px, in the table")
    expect(page.locator("#conflict")).to_be_hidden()


def test_a_scan_is_skipped_once_where_x_is_pressed_again_before_the_next_one_opens(page, folder):
    decisions = []
    page.on("request", lambda request: decisions.append(1) if "decide" in request.url else None)
    go_to(page, "bone_006")
    held = hold(page, "**/api/queue")
    with page.expect_response(DECIDE):
        page.keyboard.press("x")
    page.keyboard.press("x")
    handled(page)
    held.release()
    expect(page.locator("#facts h2")).not_to_have_text("bone_006")
    go_to(page, "bone_006")
    expect(page.locator("#select")).to_have_value("no")
    assert cells(folder, "bone_006")["select"] == "no"
    assert len(decisions) == 1


def test_two_decisions_on_one_scan_in_quick_succession_are_no_conflict(page, folder):
    go_to(page, "bone_007")
    held = hold(page, DECIDE)
    page.locator("#select").select_option("yes")
    page.keyboard.press("n")
    page.keyboard.type(", two pores")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    held.release()
    expect(page.locator("#history")).to_contain_text("two pores")
    expect(page.locator("#conflict")).to_be_hidden()
    assert cells(folder, "bone_007") == {
        "select": "yes", "cor_px": "513.65", "note": "by eye, two pores"
    }  # fmt: skip


def test_undo_in_quick_succession_takes_back_one_decision_after_the_other(page, folder):
    go_to(page, "bone_007")
    held = hold(page, DECIDE)
    for text in ("512.5", "514.5"):
        decide(page, text)
        if not held.is_released:
            page.keyboard.press("u")  # of the decision that is not written yet
            held.release()
            expect(page.locator("#toast")).to_have_text("bone_007: as before")
            assert cells(folder, "bone_007")["cor_px"] == "513.65"
            expect(page.locator("#facts h2")).to_have_text("bone_007")
    expect(page.locator("#toast")).to_contain_text("bone_007: 514.50 px, in the table")
    go_to(page, "bone_005")
    decide(page, "512.5")
    expect(page.locator("#toast")).to_contain_text("bone_005: 512.50 px, in the table")
    held = hold(page, DECIDE)
    page.keyboard.press("u")
    page.keyboard.press("u")
    held.release()
    expect(page.locator("#toast")).to_have_text("bone_007: as before")
    assert [cells(folder, scan)["cor_px"] for scan in ("bone_005", "bone_007")] == ["", "513.65"]


def test_an_error_is_not_hidden_by_what_went_well_after_it(page, folder):
    go_to(page, "bone_007")
    held = hold(page, DECIDE)
    decide(page, "4000")
    go_to(page, "bone_005")
    page.keyboard.press("x")
    handled(page)
    held.release()
    toast = page.locator("#toast")
    expect(toast).to_contain_text("bone_005: skipped")
    expect(toast).to_contain_text("COR 4000.00 is off the detector")
    page.keyboard.press("u")
    expect(toast).to_have_text("bone_005: as before")


def test_a_cor_that_was_gone_to_stays_where_a_note_is_written_late(page):
    go_to(page, "bone_001")
    exact(page, "511.65")
    page.keyboard.press("a")
    page.locator("#row").select_option("1")
    page.keyboard.press("b")
    page.keyboard.press("Escape")
    held = hold(page, DECIDE)
    page.keyboard.press("n")
    page.keyboard.type("two pores")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    held.release()
    expect(page.locator("#history")).to_contain_text("two pores")
    expect(page.locator("#cor")).to_have_value("512.65")
    expect(page.locator("#row")).to_have_value("1")
    page.keyboard.press("m")
    expect(page.locator("#label-a")).to_have_text("A  COR 512.65 minus B")


def test_a_look_at_what_others_changed_stops_no_scan_that_opens_slowly(page, folder):
    go_to(page, "bone_007")
    held = hold(page, SCAN)
    row(page, "bone_005").click()
    banner = page.locator("#connection")
    expect(banner).to_contain_text("has not answered yet")
    while len(held) < 2:  # a look, one in ten seconds, asks for the scan that is opened again
        page.wait_for_timeout(20)
    edit_table(folder / "scans.tsv", {"bone_006": {"cor_px": "513.05"}})
    expect(row(page, "bone_006")).to_contain_text("513.05")  # by the next look
    assert banner.is_visible()  # other answers end no waiting
    assert {route.request.url.partition("=")[2] for route in held} == {"bone_005"}
    held.release()
    expect(page.locator("#facts h2")).to_have_text("bone_005")


@pytest.mark.parametrize("how", ["click", "Enter"])
def test_a_cor_that_is_typed_while_a_scan_opens_is_for_that_scan(page, folder, how):
    go_to(page, "bone_006")
    exact(page, "513.45")
    held = hold(page, SCAN)
    decision = hold(page, DECIDE)
    if how == "click":
        page.keyboard.type("5")  # for the one that is left
        with page.expect_request(SCAN):
            row(page, "bone_001").click()
    else:
        page.keyboard.press("Enter")
    page.keyboard.type("51")
    if how == "Enter":
        with page.expect_request(SCAN):
            decision.release()
        page.keyboard.type("2")
    decision.release()
    answered(page, held, SCAN)
    page.keyboard.type("2.4" if how == "click" else ".4")
    heading = page.locator("#facts h2")
    expect(heading).not_to_have_text("bone_006")
    expect(page.locator("#cor")).to_have_value("512.4")
    scan = heading.inner_text()
    page.keyboard.press("Enter")
    expect(row(page, scan)).to_contain_text("512.40 ✎")
    assert cells(folder, "bone_006")["cor_px"] == ("" if how == "click" else "513.45")


def test_a_page_or_click_that_comes_late_is_not_of_the_next_scan(page, folder):
    pages, slices = hold(page, "**/api/page?*"), None
    go_to(page, "bone_001")
    exact(page, "511.65")
    slices = hold(page, "**/api/slice?*")
    page.keyboard.press("ArrowRight")
    row(page, "bone_006").click()
    expect(page.locator("#cor")).to_have_value("513.45")
    answered(page, pages, "**/api/page?*")
    page.keyboard.press("P")  # accepts, if the slice is in sight
    expect(page.locator("#cor")).to_have_value("548.50")
    slices.release()
    exact(page, "548.50")
    expect(page.locator("#candidates")).to_be_visible()
    slices = hold(page, "**/api/slice?*")
    pages = hold(page, "**/api/page?*")
    go_to(page, "bone_001")
    page.locator("#picture").click(position={"x": 20, "y": 200})  # a candidate of the one before
    slices.release()
    pages.release()
    exact(page, "511.65")
    assert cells(folder, "bone_006")["cor_px"] == ""


def test_the_strip_takes_a_click_while_another_one_comes_and_none_that_fails_late_clears_it(page):
    go_to(page, "bone_001")
    exact(page, "511.65")
    crops = page.locator(".crop")
    expect(crops).to_have_count(7)
    strip = "**/api/strip?*"
    held = hold(page, strip)
    with page.expect_request(strip):
        page.keyboard.press("ArrowRight")
    crops.nth(5).hover()
    page.mouse.down()
    answered(page, held, strip)
    page.mouse.up()
    expect(page.locator("#cor")).to_have_value("513.65")
    exact(page, "513.65")
    expect(crops.nth(3)).to_have_text("513.65")
    held = hold(page, strip)
    for number in (1, 2):
        page.keyboard.press("ArrowLeft")
        while len(held) < number:
            page.wait_for_timeout(20)
    with page.expect_response(strip):
        held[1].continue_()
    expect(crops.nth(3)).to_have_text("511.65")
    with page.expect_response(strip):
        held[0].fulfill(status=422, body='{"error": "no slice"}')
    soon(page)
    expect(crops).to_have_count(7)


def test_the_queue_stays_where_it_was_scrolled_to_and_a_state_keeps_the_focus(folder, serve, visit):
    page = visit(serve(folder), viewport={"width": 1280, "height": 500})
    expect(page.locator("#facts h2")).to_have_text("wood_1")
    held = hold(page, DECIDE)
    page.keyboard.press("n")
    page.keyboard.type("two pores")
    page.keyboard.press("Escape")
    bottom = "document.getElementById('list').scrollTop = 200"
    assert page.evaluate(bottom) == 200
    held.release()
    expect(page.locator("#history")).to_contain_text("two pores")
    assert page.evaluate("document.getElementById('list').scrollTop") == 200
    chip = page.locator("#filters .chip[data-state=ok]")
    chip.focus()
    for shown in ("false", "true"):
        page.keyboard.press("Space")
        expect(chip).to_have_attribute("aria-pressed", shown)
        expect(chip).to_be_focused()


def test_a_key_that_is_held_decides_once(page, folder):
    go_to(page, "bone_006")
    exact(page, "513.45")
    page.keyboard.down("Enter")
    expect(page.locator("#facts h2")).not_to_have_text("bone_006")
    page.keyboard.down("Enter")  # repeats
    page.keyboard.up("Enter")
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_have_text("bone_006: as before")
    assert set(read_cells(folder / "scans.tsv")) == {"bone_006", "bone_007", "bone_010"}


def test_the_next_run_is_asked_for_once_more_however_much_is_decided_meanwhile(page):
    expect(page.locator("#next")).to_contain_text("Next run")
    held = hold(page, "**/api/plan")
    go_to(page, "bone_007")
    for text in ("512.5", "513.5", "514.5"):
        go_to(page, "bone_007")
        decide(page, text)
        expect(page.locator("#toast")).to_contain_text(f"bone_007: {text}0 px, in the table")
    page.locator("#plan[aria-busy], #plan-body[aria-busy]").wait_for(state="attached")
    asked = []
    page.on("request", lambda request: "api/plan" in request.url and asked.append(request.url))
    assert len(held) == 1
    held.release()
    page.locator("#plan-body:not([aria-busy])").wait_for(state="attached")
    assert len(asked) == 1


def test_a_series_shows_what_was_decided_and_comes_back_with_the_network(page, folder):
    page.context.set_offline(True)
    page.get_by_role("button", name="Series").click()
    expect(page.locator("#connection")).to_be_visible()
    page.locator("#series-name").select_option("bone")
    page.context.set_offline(False)
    points = page.locator("#series-plot g.point .st-manual")
    expect(points).to_have_count(1)
    page.get_by_label("tick bone_005").click()
    page.locator("#ticked-cor").fill("512.5")
    page.locator("#ticked-set").click()
    expect(points).to_have_count(2)
    route(page, DECIDE, lambda route: route.abort(), times=1)
    accept = page.locator("#accept-line")
    accept.click()
    expect(page.locator("#toast")).to_contain_text("not written, or not confirmed")
    expect(accept).to_be_enabled()


def test_a_view_chosen_before_the_first_scan_came_stays_when_the_network_is_back(page):
    connect = cut(page, SCAN, "**/icon.svg", "**/api/trial?*")
    page.reload()
    expect(page.locator("#connection")).to_be_visible()
    page.get_by_role("button", name="Series").click()
    page.locator("#series-name").select_option("bone")
    connect()
    expect(page.locator("#series-plot g.point .st-manual")).to_have_count(1)
    expect(page.locator("#connection")).to_be_hidden()
    page.get_by_role("button", name="Scans", exact=True).click()
    page.wait_for_selector("#stage[data-exact=yes]")


def test_a_view_that_was_chosen_while_the_page_opens_stays(folder, serve, visit):
    page = visit(serve(folder))
    go_to(page, "bone_001")
    page.get_by_role("button", name="Series").click()
    held = hold(page, SCAN)
    with page.expect_request(SCAN):
        page.reload()
    page.get_by_role("button", name="Jobs").click()
    answered(page, held, SCAN)
    page.locator("#stage[data-exact=yes]").wait_for(state="attached")
    soon(page)
    expect(page.locator("#jobs")).to_be_visible()
