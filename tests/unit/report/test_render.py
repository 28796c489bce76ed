"""The page: what it shows, that it is harmless, that it stands alone."""

import itertools
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

import pytest

from tests.report_campaign import NASTY, every_state, half_finished
from tomopipe.campaign.state.signs import State
from tomopipe.report.collected_records import collect
from tomopipe.report.render import render, templates
from tomopipe.steps.report import report

pytestmark = pytest.mark.slow

VOID = {"meta", "br", "img", "input", "link", "use", "hr"}


@dataclass
class Page(HTMLParser):
    """Elements with their attributes and text; complains about tags left open."""

    html: str
    tags: list = field(default_factory=list)
    text: dict = field(default_factory=dict)

    def __post_init__(self):
        super().__init__()
        self.stack = []
        self.feed(self.html)
        assert not self.stack

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):
            self.stack.append((tag, len(self.tags) - 1))

    def handle_endtag(self, tag):
        if tag not in VOID and not self.get_starttag_text().endswith(f"{tag}/>"):
            assert self.stack[-1][0] == tag, f"</{tag}> closes <{self.stack[-1][0]}>"
            self.stack.pop()

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        for _, number in self.stack:
            self.text[number] = self.text.get(number, "") + data

    def all(self, tag, **wanted):
        """Give (attributes, text) of the elements with these attributes."""
        return [
            (attrs, " ".join(self.text.get(number, "").split()))
            for number, (name, attrs) in enumerate(self.tags)
            if name == tag and all(attrs.get(k) == v for k, v in wanted.items())
        ]


def rows_of(page):
    """Give the cells of each row of the table of scans, by name."""
    body = page.html.split('id="table"')[1].split("</table>")[0]
    found = {}
    for row in re.findall(r"<tr id=.*?</tr>", body, re.S):
        cells = [text for _, text in Page(row).all("td")]
        found[Page(row).all("th")[0][1]] = cells
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = every_state(tmp_path_factory.mktemp("campaign")).write()
    report(made.page, made.campaign())
    return made


@pytest.fixture(scope="module")
def page(made):
    return Page(made.page.read_text(encoding="utf-8"))


def test_the_summary_counts_the_states_that_occur(page):
    shown = {attrs["id"]: int(text) for attrs, text in page.all("span", **{"class": "n"})}
    counts = {f"n-{state}": 1 for state in {*State} - {"pending", "unswept"}}  # no tile of zero
    assert shown == counts | {"n-ok": 4, "n-failed": 2}


def test_what_needs_attention_counts_the_skipped(page):
    first = page.html.split('id="attention"')[1].split("</section>")[0]
    assert '1 scan skipped: <a href="#skipped">' in first


def test_the_table_shows_the_numbers_of_the_files(page):
    rows = rows_of(page)
    assert len(rows) == 13
    # state, COR, source, confidence, method, before, after, reached, reason
    assert rows["bone_001"][:8] == [
        *("ok", "511.65", "predicted", "0.88", "classical", "511.65", "511.65", "volume")
    ]
    assert rows["bone_006"][:8] == [
        *("fixed", "513.45", "replaced", "0.71", "classical", "548.50", "513.45", "volume")
    ]
    assert rows["bone_006"][8] == (  # the cause first
        "35.65 px from the median 512.85 of the series, limit 10.00; "
        "predicted 548.50 (confidence 0.71), replaced; mean of bone_005 and bone_007"
    )
    assert rows["bone_007"][3] == ""  # the confidence of a prediction, not of a COR by hand
    assert rows["bone_008"][:8] == [
        *("filled", "512.81", "series mean", "0.00", "classical", "", "512.81", "volume")
    ]
    assert rows["bone_007"][5:7] == ["530.00", "513.65"]  # measured, by hand
    assert rows["bone_009"][0] == "skipped"
    assert rows["bone_009"][8] == "120 of 901 frames: the acquisition was aborted"
    assert rows["bone_002"][8] == "no theta: 0 to 180 assumed"
    assert rows["bone_010"][0] == "unselected"
    assert rows["wood_1"][:3] == ["unresolved", "", ""]


def test_plot_and_pictures_are_there_for_those_who_have_them(page):
    marks = [attrs for attrs, _ in page.all("g") if attrs.get("class", "").startswith("m st-")]
    # bone: 8 of 9 have a COR, and a distance from the line; the other series have no two
    assert len(marks) == 2 * 8
    assert sum("st-fixed" in attrs["class"] for attrs in marks) == 2
    images = page.all("img")
    planes = [attrs for attrs, _ in images if attrs["alt"].startswith("Mid plane ")]
    strips = [attrs for attrs, _ in images if attrs["alt"].startswith("The same crop of 5 try")]
    pairs = [attrs["alt"] for attrs, _ in images if " and COR " in attrs["alt"]]
    assert pairs == ["The same crop of bone_005 at COR 513.25, used and COR 513.75, wedge"]
    assert (len(planes), len(strips), len(images)) == (3 * 8, 5, 3 * 8 + 5 + 1)
    of_alarms = page.html.split('id="attention"')[1].split('id="series"')[0]
    assert of_alarms.count("<img") == 1
    assert all(attrs["src"].startswith("data:image/webp;base64,") for attrs, _ in images)


def test_the_legend_names_what_the_plots_show(made, page):
    assert ">before</li>" in page.html
    campaign = collect(made.campaign())
    unchanged = [
        replace(series, scans=tuple(replace(scan, fix=None) for scan in series.scans))
        for series in campaign.series
    ]
    html = render(replace(campaign, series=tuple(unchanged)), {})
    assert "within the limit; in the lower plot" in html
    assert ">before</li>" not in html


def test_failures_show_the_end_of_the_log(page):
    failed = page.all("section", id="failed")[0][1]
    assert NASTY in failed
    assert "MemoryError: <b>out of memory</b>" in failed
    assert "reading rows" in failed
    assert f"logs/full_recon/{NASTY}.log" in failed
    assert "constant frames" in failed


def test_what_is_between_backticks_is_code_and_all_else_text():
    html = templates().get_template("parts.html.j2").module.coded("`retry <b>`: <i> else `, **")
    assert html == "<code>retry &lt;b&gt;</code>: &lt;i&gt; else `, **"


def test_provenance(page):
    provenance = page.all("section", id="provenance")[0][1]
    assert re.search(r"tomopipe\s*0\.1\.0", provenance)
    assert re.search(r"numpy\s*\d+\.\d+", provenance)
    assert "min_confidence: 0.5" in provenance


def test_names_are_harmless(page):
    scripts = page.all("script")
    assert len(scripts) == 1  # ours
    assert not [attrs for attrs, _ in page.all("img") if attrs["src"] == "x"]
    assert not [tag for tag, attrs in page.tags if any(k.startswith("on") for k in attrs)]
    assert NASTY in rows_of(page)
    assert "Knochen größe 三_1" in rows_of(page)


def test_the_page_stands_alone(page):
    for tag, attrs in page.tags:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attrs.get(key, "#")
            # a volume's link is shown where the review page serves the report, and nowhere else
            known = ("#", "data:image/", "../volume.html#")
            assert value.startswith(known), f"<{tag} {key}={value}>"
    style = page.all("style")[0][1]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:", page.html)


def test_links_inside_the_page_lead_somewhere(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    wanted = {attrs["href"][1:] for _, attrs in page.tags if attrs.get("href", "").startswith("#")}
    wanted |= {attrs["data-row"] for _, attrs in page.tags if "data-row" in attrs}
    wanted |= {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs}
    assert wanted <= set(ids)


def test_headings_go_down_by_one(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_the_script_is_the_only_one_allowed(page):
    policy = next(a["content"] for a, _ in page.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


def test_the_same_inputs_give_the_same_page(made):
    first = made.page.read_bytes()
    report(made.page, made.campaign())
    assert made.page.read_bytes() == first
    (made.page.parent / "pictures.json").unlink()
    report(made.page, made.campaign())
    assert made.page.read_bytes() == first


def test_a_half_finished_campaign_says_so(tmp_path):
    made = half_finished(tmp_path)
    report(made.page, made.campaign())
    page = Page(made.page.read_text(encoding="utf-8"))
    assert page.all("span", id="n-pending")[0][1] == "3"
    progress = page.all("ul", **{"class": "progress"})[0][1]
    assert progress == "6 of 11 predicted 0 of 11 COR resolved 0 of 11 reconstructed"
    assert rows_of(page)["bone_003"][7] == "running predict_cor"
    # the sweeps of those that are predicted, and no volume
    assert [attrs["alt"][-20:] for attrs, _ in page.all("img")] == [
        *("COR 505.65 to 517.65", "COR 506.05 to 518.05")
    ]


def test_what_is_assumed_for_all_scans_is_told_once(made):
    assumed = "energy_kev is unknown"
    page = made.page.with_name("assumed.html")
    report(page, made.campaign(), notes={assumed: set(made.scans)})
    html = page.read_text(encoding="utf-8")
    assert html.count(assumed) == 1
    (line,) = [text for _, text in Page(html).all("li") if assumed in text]
    assert line.startswith("11 scans: ")
    assert line.endswith("bone_008, wood_1 energy_kev is unknown")
