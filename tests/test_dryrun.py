"""Reading Snakemake's records: is a foreseen table what a rule last read?"""

import base64
import hashlib
import json

import pytest

from tomopipe.dryrun import is_recorded, recorded_param


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = base64.b64encode(b"results/out.star").decode()
    path = tmp_path / ".snakemake" / "metadata" / name
    path.parent.mkdir(parents=True)
    checksum = "sha256:" + hashlib.sha256(b"equal").hexdigest()
    path.write_text(
        json.dumps({"input_checksums": {"results/cor.json": checksum}, "params": ["1", "'n 5.5'"]})
    )
    return tmp_path


@pytest.mark.parametrize(("text", "same"), [("equal", True), ("other", False)])
def test_content_is_compared_with_the_record(folder, text, same):
    (folder / "new").write_text(text)
    assert is_recorded("results/out.star", "results/cor.json", str(folder / "new")) is same


@pytest.mark.parametrize(
    ("output", "path", "content"),
    [
        ("results/other", "results/cor.json", "new"),
        ("results/out.star", "results/inventory.tsv", "new"),
        ("results/out.star", "results/cor.json", "absent"),
    ],
)
def test_without_a_record_nothing_is_taken_for_equal(folder, output, path, content):
    (folder / "new").write_text("equal")
    assert not is_recorded(output, path, str(folder / content))


def test_recorded_parameter_is_found_by_its_pattern(folder):
    assert recorded_param("results/out.star", r"n [0-9.]+") == "n 5.5"
    assert recorded_param("results/out.star", "absent") == ""
    assert recorded_param("results/other", "n") == ""
