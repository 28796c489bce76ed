"""CORs that earlier work left: which are taken, and which a run finds again by itself."""

import json

import pytest

from tomopipe.campaign.cor_files import read_cors
from tomopipe.errors import TomopipeError


def write_sidecar(folder, scan, cor_px, source):
    path = folder / f"{scan}.cor.json"
    path.write_text(json.dumps({"scan": scan, "cor_px": cor_px, "source": source}))
    return path


def named(entries):
    return {entry.rsplit("/", 1)[1]: value for entry, value in entries.items()}


def test_of_sidecars_manual_cors_are_taken(tmp_path):
    sources = ["manual", "ai", "auto", "outlier", "neighbours", "series-mean", "default"]
    paths = [
        write_sidecar(tmp_path, f"größe {number}.5", 1000.0 + number, source)
        for number, source in enumerate(sources)
    ]
    found = read_cors(paths)
    assert found.cors == {f"{tmp_path}/größe 0.5": 1000.0}
    assert len(found.passed_over) == 6
    both = read_cors(paths, predicted=True)
    assert named(both.cors) == {f"größe {number}.5": 1000.0 + number for number in range(3)}


def test_of_several_files_the_last_counts(tmp_path):
    first, last = tmp_path / "rot_cen.json", tmp_path / "edited.csv"
    first.write_text('{"a_1": "5", "a_2": "6"}')
    last.write_text("Filename,COR\na_2,7\na_3,x\n")
    assert read_cors([first, last]) == ({"a_1": 5.0, "a_2": 7.0}, {"a_3": "'x'"}, {})


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"scan": 5, "source": "manual"}', "[" * 20000])
def test_a_damaged_sidecar_costs_itself_alone(tmp_path, text):
    good, bad = write_sidecar(tmp_path, "a_1", 5.0, "manual"), tmp_path / "a_2.cor.json"
    bad.write_text(text)
    found = read_cors([bad, good])
    assert named(found.cors) == {"a_1": 5.0}
    assert "a_2.cor.json" in named(found.passed_over)["a_2.cor.json"]


def test_a_sidecar_without_a_number_is_junk(tmp_path):
    one = write_sidecar(tmp_path, "a_1", "1024,5", "manual")
    two = write_sidecar(tmp_path, "a_2", None, "manual")
    assert named(read_cors([one, two]).junk) == {"a_1": "'1024,5'", "a_2": "'null'"}


def test_a_folder_says_what_to_name_instead(tmp_path):
    with pytest.raises(TomopipeError, match="a folder is no longer there: name its files, such as"):
        read_cors([tmp_path])
