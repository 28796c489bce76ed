"""What has changed since the last report is at its head, and stays there until something does."""

import re

import pytest

from tests.report_campaign import Made
from tomopipe.steps.report import report


@pytest.fixture
def made(tmp_path):
    made = Made(tmp_path)
    for index, cor_px in enumerate((500.0, 500.4, 500.8), start=1):
        made.scan(f"a_{index}", series="a", index=index)
        made.predict(f"a_{index}", cor_px)
        made.resolve(f"a_{index}", cor_px, "auto")
    return made.write()


def written(made, page=None):
    page = page or made.page
    report(page, made.campaign())
    return page.read_bytes()


def lines(page):
    head = page.decode().partition('id="changes"')[2].partition("</section>")[0]
    plain = [" ".join(re.sub(r"<[^>]*>", "", line).split()) for line in head.split("<li>")]
    return plain[1:]


def test_changes_are_named_until_there_are_others(made, tmp_path):
    assert lines(first := written(made)) == []  # there was no report before
    assert written(made) == first
    made.resolve("a_2", 501.25, "auto")
    made.predict("a_2", 501.25)
    made.write()
    kept = (made.page.parent / "shown.json").read_bytes()
    elsewhere = written(made, tmp_path / "elsewhere" / "page.html")
    assert (made.page.parent / "shown.json").read_bytes() == kept
    assert lines(elsewhere) == lines(second := written(made)) == ["a_2: COR 500.40 → 501.25 px"]
    assert written(made) == second
    made.scan("a_4", series="a", index=4)
    made.scan("a_5", series="a", index=5)
    made.write()
    assert lines(written(made)) == ["2 scans (a_4, a_5): new, pending"]
    del made.scans["a_1"]
    made.inventory = [row for row in made.inventory if row["scan"] != "a_1"]
    made.write()
    assert lines(written(made)) == ["a_1: no longer in the campaign"]


@pytest.mark.parametrize("content", ["", "[]", '{"now": 3}', '{"now": {"scans": {"a_1": 7}}}'])
def test_a_foreign_or_damaged_file_does_no_harm(made, content):
    made.page.parent.mkdir(parents=True, exist_ok=True)
    (made.page.parent / "shown.json").write_text(content)
    is_ours = "a_1" in content  # then its scan counts as new, as do the others
    assert lines(written(made)) == ["3 scans (a_1, a_2, a_3): new, ok"] * is_ours
