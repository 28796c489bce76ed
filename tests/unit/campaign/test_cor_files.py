"""CORs that earlier work left: which are taken, and which a run finds again by itself."""

import json

import pytest

from tomopipe.campaign.cor_files import find_cors
from tomopipe.errors import TomopipeError


def write_center(folder, scan, text, accepted_px=None, *, ours=False):
    place = folder / "try_center" / scan
    place.mkdir(parents=True)
    (place / "center_of_rotation.txt").write_text(text)
    if ours:
        (place / "prediction.json").write_text(json.dumps({"cor_px": accepted_px}))


def write_sidecar(folder, scan, cor_px, source):
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"scan": scan, "cor_px": cor_px, "source": source})
    (folder / f"{scan}.cor.json").write_text(text)


def named(entries):
    return {entry.rsplit("/", 1)[1]: value for entry, value in entries.items()}


def test_a_tree_of_tomogui_is_taken_whole(tmp_path):
    """Its results of /data/raw are in /data/raw_rec; tomo-center appends to its file."""
    folder = tmp_path / "raw_rec"
    for scan, text in [("a_1", "1024.50\n"), ("a_2", "1000\n1001.5\n"), ("a_3", ""), ("a_4", "?")]:
        write_center(folder, scan, text)
    found = find_cors(folder)
    assert found.cors == {f"{tmp_path}/raw/a_1": 1024.5, f"{tmp_path}/raw/a_2": 1001.5}
    assert found.junk == {f"{tmp_path}/raw/a_4": "'?'"}
    assert list(found.passed_over.values()) == ["without a COR"]
    assert find_cors(folder / "try_center") == found


def test_of_our_own_results_what_was_edited_by_hand_is_taken(tmp_path):
    write_center(tmp_path, "a_1", "1024.50\n", 1024.4999, ours=True)
    write_center(tmp_path, "a_2", "1030\n", 1024.5, ours=True)
    write_center(tmp_path, "a_3", "1031\n", None, ours=True)
    write_center(tmp_path, "a_4", "1031,5\n", None, ours=True)
    found = find_cors(tmp_path)
    assert named(found.cors) == {"a_2": 1030.0, "a_3": 1031.0}
    assert named(found.junk) == {"a_4": "'1031,5'"}
    assert "--predicted" in named(found.passed_over)["a_1"]
    assert named(find_cors(tmp_path, predicted=True).cors)["a_1"] == 1024.5


def test_of_sidecars_manual_cors_are_taken(tmp_path):
    sources = ["manual", "ai", "auto", "outlier", "neighbours", "series-mean", "default"]
    for number, source in enumerate(sources):
        write_sidecar(tmp_path, f"größe {number}.5", 1000.0 + number, source)
    found = find_cors(tmp_path)
    assert named(found.cors) == {"größe 0.5": 1000.0}
    assert len(found.passed_over) == 6
    both = find_cors(tmp_path, predicted=True)
    assert named(both.cors) == {f"größe {number}.5": 1000.0 + number for number in range(3)}
    assert find_cors(tmp_path / "größe 0.5.cor.json").cors == found.cors


def test_sidecars_in_a_folder_of_results_are_found(tmp_path):
    write_sidecar(tmp_path / "sidecars", "a_1", 5.0, "manual")
    assert named(find_cors(tmp_path).cors) == {"a_1": 5.0}


def test_of_results_whose_sidecars_are_beside_the_data_the_table_counts(tmp_path):
    cors = {"a_1": "manual", "a_2": "manual", "a_3": "ai", "a_4": "neighbours"}
    entries = {scan: {"cor_px": 1024.5, "source": source} for scan, source in cors.items()}
    (tmp_path / "cor.json").write_text(json.dumps(entries))
    write_center(tmp_path, "a_1", "1024.00\n", 1024.0, ours=True)
    write_center(tmp_path, "a_2", "1030\n", 1024.0, ours=True)  # edited since
    assert named(find_cors(tmp_path).cors) == {"a_1": 1024.5, "a_2": 1030.0}
    assert named(find_cors(tmp_path, predicted=True).cors)["a_3"] == 1024.5
    (tmp_path / "cor.json").write_text("{")
    found = find_cors(tmp_path)
    assert named(found.cors) == {"a_2": 1030.0}
    assert "damaged" in named(found.passed_over)["cor.json"]


def test_of_results_the_table_counts_more_than_sidecars_of_before(tmp_path):
    """The folder of the data was read-only for a while."""
    for scan in ("a_1", "a_2", "a_3"):
        write_sidecar(tmp_path / "sidecars", scan, 51.0, "manual")
    table = {
        "a_1": {"cor_px": 50.0, "source": "manual"},
        "a_2": {"cor_px": 50.0, "source": "ai"},
    }
    (tmp_path / "cor.json").write_text(json.dumps(table))
    assert named(find_cors(tmp_path).cors) == {"a_1": 50.0, "a_3": 51.0}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"scan": 5, "source": "manual"}', "[" * 20000])
def test_a_damaged_sidecar_costs_itself_alone(tmp_path, text):
    write_sidecar(tmp_path, "a_1", 5.0, "manual")
    (tmp_path / "a_2.cor.json").write_text(text)
    found = find_cors(tmp_path)
    assert named(found.cors) == {"a_1": 5.0}
    assert "a_2.cor.json" in named(found.passed_over)["a_2.cor.json"]


def test_a_sidecar_without_a_number_is_junk(tmp_path):
    write_sidecar(tmp_path, "a_1", "1024,5", "manual")
    write_sidecar(tmp_path, "a_2", None, "manual")
    assert named(find_cors(tmp_path).junk) == {"a_1": "'1024,5'", "a_2": "'null'"}


def test_a_folder_without_any_says_what_is_expected(tmp_path):
    with pytest.raises(TomopipeError, match=r"expected sidecars .* or try_center/<scan>/center_of"):
        find_cors(tmp_path)
