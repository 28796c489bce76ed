"""The keys of the review page, as the page lists them and the docs do."""

import re
from pathlib import Path

HOME = Path(__file__).parents[3]
PAGE = HOME / "tomopipe" / "review" / "static" / "app.js"
DOCS = HOME / "docs" / "how-to" / "choose-a-cor.md"


def names(text):
    return {word.strip(",;()").replace("Space", "space") for word in text.split()} - {"/", ""}


def test_the_docs_have_every_key_of_the_page():
    listed = PAGE.read_text().partition("const keys = [")[2].partition("\n];")[0]
    keys = re.findall(r'^  \["([^"]+)"', listed, re.MULTILINE)
    rows = re.findall(r"^\| ([^|]+) \| ", DOCS.read_text(), re.MULTILINE)
    assert len(keys) > 20
    lacking = set().union(*map(names, keys)) - set().union(*map(names, rows))
    assert not lacking, f"{DOCS.name} lacks {lacking}"
