"""The report in a real browser, from a file: hide, highlight, sort, print, dark and light."""

import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.conftest import handled, look
from tests.report_campaign import NASTY, every_state
from tomopipe.campaign.files import Files
from tomopipe.steps.report import report
from tomopipe.watch.watched_scans import Verdict, write_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = every_state(tmp_path_factory.mktemp("campaign")).write()
    report(made.page, made.campaign())
    return made.page


@pytest.fixture
def visit(browse, made):
    """Open the report without a network."""

    def open_page(path=made, **options):
        return browse(f"file://{path}", expected=(), offline=True, **options)

    return open_page


def names(page):
    return page.locator("#table tbody tr:visible th")


def test_find_sort_and_state(visit):
    page = visit()
    expect(names(page)).to_have_count(13)
    page.get_by_label("Find").fill("median 512")
    expect(names(page)).to_have_text(["bone_006"])
    expect(page.locator("#shown")).to_have_text("1 of 13 shown")
    page.get_by_label("Find").fill("")
    page.locator(".tile[data-state=manual]").click()
    expect(names(page)).to_have_text(["bone_007"])
    page.locator("#state").select_option("")
    sort = page.locator("#table thead th").filter(has_text="Confidence").get_by_role("button")
    sort.click()
    sort.click()
    first = page.locator("#table tbody tr td.conf").first
    expect(first).to_have_text("0.88")
    expect(page.locator("#table thead th[aria-sort=descending]")).to_have_count(1)


def test_columns_are_hidden_and_shown_again(visit):
    page = visit()
    reasons = page.locator("#table td.reason")
    expect(reasons.first).to_be_visible()
    page.locator(".columns summary").click()
    page.get_by_label("Reason", exact=True).uncheck()
    expect(page.locator("#table td.reason:visible")).to_have_count(0)
    expect(page.locator("#table th", has_text="Confidence")).to_be_visible()
    page.get_by_label("Reason", exact=True).check()
    expect(reasons.first).to_be_visible()


def test_scans_are_highlighted_in_table_plots_and_pictures(visit):
    page = visit()
    page.get_by_label("Highlight").fill("bone_003")
    expect(page.locator("tr.lit th")).to_have_text(["bone_003"])
    expect(page.locator("svg .m.lit title")).to_have_text([re.compile("^bone_003:")] * 2)
    expect(page.locator(".card.lit h3")).to_contain_text(["bone_003"])
    expect(names(page)).to_have_count(13)
    page.get_by_label("Highlight").fill("")
    expect(page.locator(".lit")).to_have_count(0)


def test_a_picture_enlarges_and_attention_leads_to_pictures(visit):
    page = visit()
    page.locator("#attention a", has_text="bone_006").first.click()
    card = page.locator(".card:target")
    expect(card.locator("h3")).to_contain_text("bone_006")
    image = card.locator(".larger").first
    small = image.bounding_box()["width"]
    image.click()
    large = page.locator("#large")
    expect(large).to_contain_text("Mid plane xy of bone_006; grey from")
    grown = f"image => image.getBoundingClientRect().width > {2 * small}"
    page.wait_for_function(grown, arg=large.locator("img").element_handle())
    page.keyboard.press("ArrowRight")
    expect(large).to_contain_text("Mid plane xz of bone_006")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    image.focus()
    page.keyboard.press("Enter")
    expect(large).to_be_visible()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_everything_can_be_read_and_has_a_name(visit, scheme):
    page = visit(color_scheme=scheme)
    page.get_by_label("Highlight").fill("bone")
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert look(page, "tooFaint") == []
    assert look(page, "nameless") == []
    expect(page.locator("#failed")).to_contain_text(NASTY)


@pytest.mark.parametrize("width", [2560, 820])
def test_nothing_sticks_out(visit, width):
    page = visit(viewport={"width": width, "height": 1000})
    assert look(page, "tooWide") <= 0
    for table in page.locator(".scroll").all():
        assert table.evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0


@pytest.mark.parametrize("width", [2560, 820])
def test_all_columns_of_the_page_of_a_watch_are_seen(visit, tmp_path, width):
    why = "the sample moved between projections 89 and 90 of those in use: not accepted"
    event = {"path": "", "at": 0.0, "has_verdict": True}
    name = "long-name_of_a_sample_from_beamtime_012"
    verdicts = [Verdict(name, "doubtful", 80.8, 0.43, True, why), Verdict("a_1", "ok", 80.8, 1.0)]
    files = Files(tmp_path)
    files.live.parent.mkdir()
    Image.new("L", (240, 240)).save(files.live.parent / "a.webp")
    picture = {"picture": "a.webp", "picture_cor_px": 81.0}
    write_page(files, "Beamtime", [event | vars(verdict) | picture for verdict in verdicts])
    page = visit(files.live, viewport={"width": width, "height": 1000})
    assert look(page, "tooWide") <= 0
    table = page.locator(".scroll")
    assert table.evaluate("(node) => node.scrollWidth - node.clientWidth") <= 0
    assert page.locator("td.why").first.bounding_box()["width"] > 180


def test_the_focus_is_seen(visit):
    page = visit()
    for _ in range(25):
        page.keyboard.press("Tab")
        handled(page)
        focus = look(page, "outline")
        assert focus["width"] >= 2, focus
        assert focus["contrast"] >= 3, focus


def test_the_print_shows_all_and_no_tools(visit):
    page = visit(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator("nav")).to_be_hidden()
    expect(page.locator(".tools")).to_be_hidden()
    of_series = page.locator("figure.plot", has_text="bone").locator("table tbody th")
    expect(of_series.first).to_have_text("bone_001")  # its plots, and below them its scans
    n_scans = of_series.count()
    assert n_scans >= 9
    assert page.evaluate("getComputedStyle(document.querySelector('.plot')).breakBefore") == "page"
    icon = page.locator("figure.plot table .icon").first.bounding_box()
    assert icon["width"] < 20
    closed = page.evaluate(
        "document.querySelectorAll('main details:not(.columns):not([open])').length"
    )
    assert closed == 0
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    assert look(page, "tooFaint") == []
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(names(page)).to_have_count(13)  # on the screen the table is whole
    expect(page.locator("figure.plot table")).to_have_count(0)
