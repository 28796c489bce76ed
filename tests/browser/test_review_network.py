"""The review page while the network is gone: nothing is lost, and nothing gets out of step."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import cut, hold, look, route, row
from tomopipe.review.queue import read_cells

pytestmark = pytest.mark.browser

LOST = (
    "No connection to tomopipe review. Retrying every second. "
    "If it was started again, open the link that it printed."
)


@pytest.fixture
def page(folder, serve, visit):
    page = visit(serve(folder))
    row(page, "bone_006").click()
    page.wait_for_selector("#stage[data-cor='513.45'][data-exact=yes]")
    return page


def shown(page):
    """The scans of the queue and of the facts, the COR of the picture and that of the box."""
    return page.evaluate(
        """() => [document.querySelector("#rows [aria-selected=true]").dataset.scan,
          document.querySelector("#facts h2").textContent,
          document.getElementById("stage").dataset.cor, document.getElementById("cor").value]"""
    )


def test_offline_between_two_keys_all_stays_with_one_scan(page, folder):
    page.context.set_offline(True)
    page.keyboard.press("j")
    banner, accept = page.locator("#connection"), page.locator("#accept")
    expect(banner).to_be_visible(timeout=8000)  # the page itself looks every 10 s
    expect(banner).to_contain_text(LOST)
    expect(accept).to_be_disabled()
    assert shown(page) == ["bone_006", "bone_006", "513.45", "513.45"]
    page.keyboard.type("514.2")
    before = read_cells(folder / "scans.tsv")
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("bone_006 is not accepted")
    page.get_by_role("button", name="Try again").click()
    expect(banner).to_be_visible()
    expect(page.locator("#cor")).to_have_value("514.2")
    assert look(page, "tooFaint") == []
    page.context.set_offline(False)
    expect(banner).to_be_hidden()
    expect(accept).to_be_enabled()
    page.wait_for_selector("#stage[data-cor='514.20'][data-exact=yes]")
    assert shown(page) == ["bone_006", "bone_006", "514.20", "514.2"]
    assert read_cells(folder / "scans.tsv") == before
    page.keyboard.press("Enter")
    expect(row(page, "bone_006")).to_contain_text("514.20 ✎")
    assert read_cells(folder / "scans.tsv")["bone_006"]["cor_px"] == "514.20"


def test_a_decision_and_a_note_of_when_the_network_went_are_sent_when_it_is_back(page, folder):
    mend = cut(page, "**/*")
    page.keyboard.press("Enter")
    banner = page.locator("#connection")
    expect(banner).to_contain_text("Waiting to be sent: bone_006: cor_px 513.45")
    page.keyboard.press("n")
    page.keyboard.type("two pores")
    page.keyboard.press("Enter")
    expect(banner).to_contain_text("note two pores")
    page.keyboard.press("Escape")
    page.keyboard.type("515.1")
    assert "bone_006" not in read_cells(folder / "scans.tsv")
    mend()
    expect(row(page, "bone_006")).to_contain_text("513.45 ✎")
    expect(banner).to_be_hidden()
    cells = read_cells(folder / "scans.tsv")["bone_006"]
    assert cells == {"select": "auto", "cor_px": "513.45", "note": "two pores"}
    expect(page.locator("#cor")).to_have_value("515.1")  # typed since
    assert shown(page)[:2] == ["bone_006", "bone_006"]
    page.keyboard.press("u")
    expect(page.locator("#toast")).to_have_text("bone_006: as before")
    assert read_cells(folder / "scans.tsv")["bone_006"]["cor_px"] == ""


def test_a_decision_whose_answer_was_lost_is_not_made_twice(page, folder):
    def lose(route):
        route.fetch()
        route.abort()

    route(page, "**/api/decide", lose, times=1)
    page.keyboard.press("Enter")
    expect(page.locator("#toast")).to_contain_text("bone_006: cor_px 513.45, in the table")
    expect(row(page, "bone_006")).to_contain_text("513.45 ✎")
    expect(page.locator("#conflict")).to_be_hidden()
    assert read_cells(folder / "scans.tsv")["bone_006"]["cor_px"] == "513.45"


@pytest.mark.parametrize("opened", ["before", "after"])
def test_a_note_waits_for_the_link_of_a_server_that_was_started_again(folder, serve, visit, opened):
    server = serve(folder)
    page = visit(server, expected=("403", "net::ERR"))
    row(page, "bone_006").click()
    page.wait_for_selector("#stage[data-cor='513.45'][data-exact=yes]")
    expect(page.locator("#next")).to_contain_text("Next run")
    hold(page, "**/api/changes")  # the page notices nothing by itself
    server.process.terminate()
    server.process.wait()
    link = serve(folder, "--port", str(urlsplit(page.url).port)).link()
    if opened == "before":
        page.context.new_page().goto(link)
    page.keyboard.press("n")
    page.keyboard.type("two pores")
    page.keyboard.press("Escape")
    banner = page.locator("#connection")
    if opened == "after":
        expect(banner).to_contain_text("tomopipe review was started again: open the link")
        expect(banner).to_contain_text("Waiting to be sent: bone_006: note two pores")
        page.context.new_page().goto(link)
    expect(page.locator("#history")).to_contain_text("two pores")
    expect(banner).to_be_hidden()
    assert read_cells(folder / "scans.tsv")["bone_006"]["note"] == "two pores"


def test_a_server_that_does_not_answer_is_waited_for(page):
    waiting = hold(page, "**/api/scan?*")
    page.keyboard.press("j")
    banner = page.locator("#connection")
    expect(banner).to_contain_text("has not answered yet")
    expect(page.locator("#accept")).to_be_disabled()
    assert shown(page)[:2] == ["bone_006", "bone_006"]
    page.keyboard.type("514")
    waiting[0].continue_()
    expect(banner).to_be_hidden()
    assert shown(page)[:2] == ["bone_006", "bone_006"]
    expect(page.locator("#cor")).to_have_value("514")


def test_a_picture_that_the_browser_still_has_is_no_connection(page):
    hold(page, "**/api/queue")
    cut(page, "**/icon.svg", "**/api/scan?*")
    page.keyboard.press("j")
    accept = page.locator("#accept")
    expect(accept).to_be_disabled()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#stage[data-cor='514.45'][data-exact=yes]")
    assert accept.is_disabled()


def test_a_scan_that_nobody_waits_for_any_more_stops_nothing(page):
    route(page, "**/api/scan?scan=bone_001", lambda route: None)  # never answered
    with page.expect_request("**/api/scan?scan=bone_001"):
        row(page, "bone_001").click()
    with page.expect_response("**/api/scan?scan=bone_006"):
        row(page, "bone_006").click()
    page.wait_for_timeout(1700)  # ms; after 1500 the page says that it waits
    assert page.locator("#connection").is_hidden()
    assert page.locator("#accept").is_enabled()


def test_a_slice_that_fails_leaves_no_picture_of_another_scan(page):
    mend = cut(page, "**/api/slice?*", "**/api/page?*")
    row(page, "bone_001").click()
    expect(page.locator("#nothing")).to_contain_text(LOST)
    assert shown(page)[:2] == ["bone_001", "bone_001"]
    bright = """() => {
      const picture = document.getElementById("picture");
      const { data } = picture.getContext("2d").getImageData(0, 0, picture.width, picture.height);
      return data.some((value, at) => at % 4 < 3 && value > 60);
    }"""
    assert not page.evaluate(bright)
    mend()
    page.wait_for_selector("#stage[data-cor='511.65'][data-exact=yes]")
    expect(page.locator("#nothing")).to_be_hidden()
    assert page.evaluate(bright)
