"""A pipe in the place of any file of a campaign is never opened, by whatever reads the file."""

from pathlib import Path

from tests.pipes import pipe_at
from tests.workflow.conftest import snakemake
from tomopipe.campaign.campaign import load_campaign
from tomopipe.commands.next_run import make_plan
from tomopipe.commands.status import read_status
from tomopipe.errors import TomopipeError
from tomopipe.review.store import Store
from tomopipe.run.page import report_campaign
from tomopipe.run.unfinished import set_remarks, unfinished_scans
from tomopipe.storage.lock import under_way

SAYS = "is a pipe, not a file: remove it"
PRODUCTS = ("_rec.h5", "rows.h5", "try.tif", "try.json", "prediction.json", "cor.json", ".mrcs")
"""Files without which a run would begin by replacing what is there."""


def files_of(campaign: Path) -> list[Path]:
    """Return a file of each kind."""
    files = [
        path
        for path in campaign.rglob("*")
        if path.is_file() and not path.is_symlink()
        if ".snakemake" not in path.parts and path.name != "snakemake.out"
        if not any(scan in str(path) for scan in ("a_1", "a_3", "b_1", "b_2", "b_3", "/b."))
    ]
    assert len(files) > 40
    return sorted(files)


def look(campaign: Path) -> str:
    """Read the campaign as commands and the page do; return what they say."""
    said = []
    for read in (
        lambda: make_plan(load_campaign(campaign)),
        lambda: read_status(load_campaign(campaign)),
        lambda: Store(campaign, campaign / "config.yaml").record(),
        lambda: report_campaign(load_campaign(campaign), campaign / "page" / "index.html"),
        lambda: unfinished_scans(load_campaign(campaign)),
        lambda: set_remarks(load_campaign(campaign)),
        lambda: under_way(campaign),
    ):
        try:
            said.append(str(read()))
        except TomopipeError as error:
            said.append(str(error))
    return "\n".join(said)


def test_no_command_opens_a_pipe_and_products_and_inputs_are_named(campaign, tmp_path, caplog):
    assert snakemake(campaign).status == 0  # in a copy: receipts of this place
    opened = tmp_path / "opened"
    wrong = []
    for path in files_of(campaign):
        with pipe_at(path, opened):
            caplog.clear()
            said = look(campaign) + caplog.text
        name = str(path.relative_to(campaign))
        if opened.exists():
            opened.unlink()
            wrong.append(f"{name}: opened")
        is_input = name.startswith(("raw/", "config", "scans.tsv")) and "cor.json" not in name
        expected = SAYS if is_input else f"{name} is not tomopipe's: kept as"
        if (is_input or name.endswith(PRODUCTS)) and expected not in said:
            wrong.append(f"{name}: not named: {said[:300]}")
    assert wrong == []
