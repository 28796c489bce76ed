"""The small files of the results: what was cut or edited is named, with what to do."""

import json

import pytest

from tomopipe.campaign.results import (
    read_cor_json,
    read_inventory,
    read_json,
    read_prediction,
    read_tsv,
    write_tsv,
)
from tomopipe.errors import TomopipeError

ENTRY = {"cor_px": 1000.5, "source": "ai"}
COLUMNS = ("scan", "path", "n_cols", "keep", "reason")
ROW = {"scan": "a", "path": "raw/a.h5", "n_cols": 2048, "keep": True, "reason": ""}


@pytest.mark.parametrize(
    "content",
    [b"", b'{"a": {"cor_px": 10', b"\xff\xfe{", b"[" * 20_000],
    ids=["empty", "cut", "no text", "deep"],
)
@pytest.mark.parametrize("read", [read_cor_json, read_prediction])
def test_what_is_no_json_is_named(tmp_path, read, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(TomopipeError, match=r"file\.json: .*expected .*Delete it and run again"):
        read(path)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], r"expected a JSON object, scan to cor_px and source; got \[\]"),
        ({"a": 5}, "a: expected cor_px and source; got 5"),
        ({"a": ENTRY | {"cor_px": float("nan")}}, "a: cor_px: expected a number; got nan"),
    ],
)
def test_what_is_no_cor_table_is_named(tmp_path, found, message):
    path = tmp_path / "cor.json"
    path.write_text(json.dumps(found))
    with pytest.raises(TomopipeError, match=rf"cor\.json: {message}"):
        read_cor_json(path)
    path.write_text(json.dumps({"größe 1": ENTRY}), encoding="utf-8")
    assert read_cor_json(path) == {"größe 1": ENTRY}
    with pytest.raises(TomopipeError, match=r"none\.json: cannot be read"):
        read_json(tmp_path / "none.json", "anything")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cor_px": "5"}, "cor_px: expected a number or null; got '5'"),
        ({"verdict": "good"}, "verdict: expected one of resolved, edge, ambiguous, flat, failed"),
    ],
)
def test_what_is_no_prediction_is_named(tmp_path, change, message):
    good = {"cor_px": None, "best_cor_px": 5, "confidence": 0.3, "verdict": "flat", "method": ""}
    path = tmp_path / "prediction.json"
    path.write_text(json.dumps(good))
    assert read_prediction(path) == good
    path.write_text(json.dumps(good | change))
    with pytest.raises(TomopipeError, match=rf"prediction\.json: {message}"):
        read_prediction(path)


@pytest.fixture
def inventory(tmp_path):
    path = tmp_path / "inventory.tsv"
    rows = [ROW, ROW | {"scan": "b", "keep": False, "n_cols": None, "reason": "cannot be opened"}]
    write_tsv(rows, COLUMNS, path)
    return path


def test_an_inventory_cut_at_any_byte_is_named_or_whole(inventory):
    """Whatever is left, no cell is taken for shorter than it was."""
    content = inventory.read_bytes()
    whole = read_tsv(inventory, COLUMNS)
    for end in range(len(content)):
        inventory.write_bytes(content[:end])
        try:
            rows = read_tsv(inventory, COLUMNS)
        except TomopipeError as error:
            assert str(inventory) in str(error)  # noqa: PT017
            assert "run again" in str(error)  # noqa: PT017
        else:
            assert content[end - 1 : end] == b"\n"
            assert rows == whole[: len(rows)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"2048\t", b"", "line 2: expected 5 cells, got 4: it was cut or edited"),
        (b"raw/a", b"raw\0a", "line 2: contains a NUL character"),
        (b"opened\n", b"ope", "line 3: expected a line end after it"),
    ],
)
def test_an_inventory_edited_by_hand_is_named(inventory, old, new, message):
    inventory.write_bytes(inventory.read_bytes().replace(old, new, 1))
    with pytest.raises(TomopipeError, match=rf"inventory\.tsv: .*{message}.*run again"):
        read_tsv(inventory, COLUMNS)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("linked", cell) for cell in ("raw/b.h5", "7", "[" * 20_000)),
        *(("also_read", "raw/b.h5"), ("n_cols", "nan"), ("pixel_size_um", "0,5")),
    ],
)
def test_an_inventory_with_a_cell_of_another_kind_is_named(tmp_path, column, cell):
    path = tmp_path / "inventory.tsv"
    more = {"linked": '{"raw/b.h5": null}', "also_read": None, "pixel_size_um": 0.5}
    write_tsv([ROW | more], (*COLUMNS, *more), path)
    assert list(read_inventory(path)) == ["a"]
    write_tsv([ROW | more | {column: cell}], (*COLUMNS, *more), path)
    with pytest.raises(TomopipeError, match=rf"inventory\.tsv: a: .*{column}.*run again"):
        read_inventory(path)
