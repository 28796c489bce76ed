"""The pages for users: links lead somewhere, pages made from the code are new, all is short."""

import re
import runpy
from functools import cache
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
DOCS = HOME / "docs"
MADE = {DOCS / "reference" / "cli.md": "cli.py", DOCS / "reference" / "api.md": "api.py"}
FOLDERS = (
    (HOME, "*.md"), (HOME / "config", "*.md"), (DOCS, "**/*.md"), (HOME / "lab", "**/*.md"),
    (HOME / "examples", "*.md"),
)  # fmt: skip
PAGES = sorted(page for folder, pattern in FOLDERS for page in folder.glob(pattern))
# those for users, written by hand
FOR_USERS = [
    page
    for page in PAGES
    if page == HOME / "README.md"
    or (page.is_relative_to(DOCS) and page.parent.name != "decisions" and page not in MADE)
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
PATH = re.compile(r"\b(?:docs|lab|config)/[\w/.-]+\.md\b")


def without_code(page):
    return re.sub(
        r"^```.*?^```|^(?: {4}|\t).*?$|`[^`\n]*`", "", page.read_text(), flags=re.M | re.S
    )


@cache
def anchors(page):
    """The anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.M)
    return {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def leads_nowhere(page, link):
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    return not target.is_file() or (anchor and anchor not in anchors(target))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_each_link_leads_somewhere(page):
    links = [link for link in LINK.findall(without_code(page)) if "://" not in link]
    assert [link for link in links if leads_nowhere(page, link)] == []


def test_pages_that_code_and_files_name_are_there():
    patterns = ("*.md", "*.yml", "*.toml", "Makefile", "Snakefile", "Containerfile")
    patterns += ("tomopipe/**/*.py", "workflow/**/*.py", "workflow/**/*.smk", "lab/**/*.py")
    files = [file for pattern in patterns for file in HOME.glob(pattern)]
    named = {path for file in files for path in PATH.findall(file.read_text())}
    assert "docs/reference/conventions.md" in named
    assert [path for path in sorted(named) if not (HOME / path).is_file()] == []


@pytest.mark.slow
@pytest.mark.parametrize("page", MADE, ids=lambda page: page.stem)
def test_pages_of_commands_and_functions_are_those_of_the_code(page):
    """`make docs` writes them."""
    is_new = page.read_text() == runpy.run_path(str(DOCS / MADE[page]))["page"]()
    assert is_new, f"`make docs` writes {page.relative_to(HOME)}"


def test_the_page_of_commands_has_no_types_of_python():
    text = (DOCS / "reference" / "cli.md").read_text()
    assert re.findall(r"<\w*\[[^>]*>", text) == []


def test_the_table_of_states_is_that_of_the_code():
    """`make docs` writes it."""
    text = (DOCS / "reference" / "conventions.md").read_text()
    page = runpy.run_path(str(DOCS / "signs.py"))["page"]
    assert page(text) == text
    assert page(text.replace("| ok | ●", "| fine | ●")) == text


@pytest.mark.parametrize("script", sorted(DOCS.glob("figures/*.py")), ids=lambda path: path.stem)
def test_the_scripts_of_figures_find_what_they_import(script, monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.syspath_prepend(script.parent)
    assert callable(runpy.run_path(str(script))["main"])


@pytest.mark.parametrize("folder", ["docs/decisions", "lab/results"])
def test_an_index_names_each_page_of_its_folder(folder):
    index = (HOME / folder / "README.md").read_text()
    pages = {page.name for page in (HOME / folder).glob("*.md")} - {"README.md"}
    assert pages == set(LINK.findall(index))


def test_the_site_shows_each_page_for_users():
    navigation = (HOME / "mkdocs.yml").read_text()
    lacking = [page for page in FOR_USERS if str(page.relative_to(HOME)) not in navigation]
    assert not lacking, f"mkdocs.yml does not show {lacking}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("explanation/*.md")), ids=lambda page: page.stem)
def test_each_explanation_opens_with_a_figure(page):
    assert "](../figures/" in page.read_text().partition("\n## ")[0]


def test_the_ways_through_the_code_name_functions_that_are_there():
    lines = (HOME / "CONTRIBUTING.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("|")]
    of_modules = [(row[2].strip(" `"), re.findall("`(.+?)`", row[3])) for row in rows if row[3:]]
    of_modules = [(path, names) for path, names in of_modules if "/" in path]
    assert len(of_modules) > 10
    for path, names in of_modules:
        code = (HOME / path).read_text()
        assert [name for name in names if f"def {name}(" not in code] == [], path


def test_the_readme_is_short():
    assert len((HOME / "README.md").read_text().split()) <= 600


def test_lines_are_short():
    pages = [page for page in PAGES if page.is_relative_to(DOCS)]
    pages += [HOME / "README.md", HOME / "CONTRIBUTING.md"]
    lines = [(page, line) for page in pages for line in page.read_text().splitlines()]
    assert [
        (page, line) for page, line in lines if len(line) > 120 and not line.startswith("|")
    ] == []
