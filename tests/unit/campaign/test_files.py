"""The paths of a campaign: what they are, and that one module alone spells them.

The endings of volumes stand with their formats.
"""

import re
import tokenize
from pathlib import Path

import pytest

import tomopipe
from tomopipe.campaign import files
from tomopipe.campaign.files import Files, Logs
from tomopipe.paths import workflow_folder

PACKAGE = Path(tomopipe.__file__).parent
SPELLERS = [PACKAGE / "campaign" / "files.py", PACKAGE / "volume_formats.py"]
FOLDERS = {"failed", "fix_cor", "logs", "relion", "report", "status", "stacks", "stitched", "sweep"}
# names of files that are no results of a campaign, by module
OTHERS = {
    "cli/options.py": {"config.yaml"},  # shown to people
    "commands/new_campaign.py": {"config.yaml"},  # of a Snakemake profile
    "run/launch.py": {"config.yaml"},  # the same
    "review/app.py": {"report", "zarr.json"},  # what the server sends
    "volumes/tiff.py": {"provenance.json"},  # parts of a volume
    "volumes/volume_zarr.py": {"zarr.json"},
    "recon/jit.py": {".snakemake"},  # knows no campaign
}


def texts(path):
    """The texts of a Python or Snakemake file by line: with {} for what an f-string puts in,
    and a slash before them where one joins paths.
    """
    middle = getattr(tokenize, "FSTRING_MIDDLE", None)  # from Python 3.12 on
    slash = ""
    with open(path, "rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type in (tokenize.STRING, middle):
                text = token.string.lstrip("rbfRBF").strip("\"'")
                yield token.start[0], slash + re.sub(r"\{[^{}]*\}", "{}", text)
            slash = "/" if token.string == "/" else ""


def spelt_names():
    """What they spell: names of files, endings, and folders that are no other words."""
    all_texts = (text for speller in SPELLERS for _, text in texts(speller))
    spelt = (text.split("/") for text in all_texts if not re.search(r"\s", text))
    values = {part for parts in spelt for part in parts}
    endings = {text.removeprefix("{}") for text in values} - {".json", ".tsv", ".log", ""}
    return {text for text in endings if "." in text or "_" in text} - FOLDERS


def named_in(text, names):
    """The name that a text without blanks ends in, or that is a folder in it."""
    if re.search(r"\s", text):
        return set()  # for people
    parts = {part for part in text.split("/") if part}
    found = names & (parts | {part.removeprefix("{}") for part in parts})
    return found | (parts & FOLDERS if "/" in text else set())


def modules():
    home = workflow_folder()
    rules = [home / "Snakefile", *home.glob("workflow/**/*.smk"), *home.glob("workflow/**/*.py")]
    return [path for path in (*PACKAGE.rglob("*.py"), *rules) if path not in SPELLERS]


@pytest.mark.slow
def test_one_module_spells_the_paths_of_a_campaign():
    names = spelt_names()
    known = {"prediction.json", "cor.json", ".mrcs", "_rec.zarr", "rows.h5", "try_center"}
    assert known <= names
    assert len(modules()) > 100
    found = []
    for path in modules():
        others = next((few for end, few in OTHERS.items() if str(path).endswith(end)), set())
        spelt = ((line, named_in(text, names) - others) for line, text in texts(path))
        found += [f"{path}:{line}: {', '.join(wrong)}" for line, wrong in spelt if wrong]
    assert not found, "\n".join(["tomopipe.campaign.files gives these:", *found])


def test_exceptions_are_needed():
    names = spelt_names()
    for module, few in OTHERS.items():
        path = next(path for path in modules() if str(path).endswith(module))
        assert few <= set().union(*(named_in(text, names) for _, text in texts(path))), module


@pytest.mark.parametrize("folder", ["results", "results/", "./a b", "/data/raw_rec"])
def test_texts_and_paths_are_the_same_places(folder):
    texts_of, paths = Files(folder), Files(Path(folder))
    for name in ("inventory", "cor_table", "rot_cen", "record", "index", "report"):
        assert Path(getattr(texts_of, name)) == getattr(paths, name)
    assert texts_of.rows("s.1") == f"{folder.rstrip('/')}/try_center/s.1/rows.h5"
    assert paths.rows("s.1") == Path(folder, "try_center", "s.1", "rows.h5")
    assert isinstance(texts_of.of_try_recon("s")[2], str)
    assert isinstance(paths.of_export_stack("s")[1], Path)


def test_paths_of_rules_take_wildcards():
    assert Files("results").stack("{scan}") == "results/relion/stacks/{scan}.mrcs"
    assert Files("results").stitched("{stack}", "zarr") == "results/stitched/{stack}_rec.zarr"
    assert Logs("logs").log("try_recon", "{scan}") == "logs/try_recon/{scan}.log"
    assert files.LOGS.status("stitch", "tall") == "logs/status/stitch/tall.json"
