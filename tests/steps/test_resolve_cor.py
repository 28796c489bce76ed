"""resolve_cor: own COR, else default, else block or skip; and the two files it writes."""

import json
import logging

import pytest

from tomopipe.campaign.results import write_tsv
from tomopipe.config import ResolveCorBlock
from tomopipe.cor.outliers import FIX_COLUMNS, parse_fixes
from tomopipe.errors import TomopipeError
from tomopipe.steps.resolve_cor import compute, resolve_cor


def row(scan, after_px, source="auto", reason=""):
    cells = dict.fromkeys(FIX_COLUMNS, "")
    return cells | {"scan": scan, "after_px": after_px, "source": source, "reason": reason}


SCANS = {
    "b 2": {"path": "raw/b 2.h5", "n_cols": 640},
    "a_1": {"path": "raw/a_1.h5", "n_cols": 640},
    "c_3": {"path": "/data/c_3.h5", "n_cols": 200},
}


def tables(folder, *rows):
    """Write one table per row, as for scans of different series."""
    paths = [str(folder / f"{number}.tsv") for number in range(len(rows))]
    for path, entry in zip(paths, rows, strict=True):
        write_tsv([entry], FIX_COLUMNS, path)
    return paths


def test_writes_cor_json_and_rot_cen_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resolved = row("b 2", "296.00", "outlier"), row("a_1", "295.81", "ai")
    paths = tables(tmp_path, row("gone", "1.00"), row("c_3", "", ""), *resolved)
    options = ResolveCorBlock(default_px=100, on_missing="block")
    resolve_cor(paths, "results/cor.json", "results/rot.json", SCANS, options)
    text = (tmp_path / "results/cor.json").read_text()
    assert json.loads(text) == {
        "a_1": {"cor_px": 295.81, "source": "ai"},
        "b 2": {"cor_px": 296.0, "source": "outlier"},
        "c_3": {"cor_px": 100, "source": "default"},
    }
    assert list(json.loads(text)) == ["a_1", "b 2", "c_3"]  # whatever their order
    assert json.loads((tmp_path / "results/rot.json").read_text()) == {
        f"{tmp_path}/raw/a_1.h5": "295.81",
        f"{tmp_path}/raw/b 2.h5": "296.00",
        "/data/c_3.h5": "100.00",
    }


@pytest.mark.parametrize(
    ("after_px", "default_px", "expected"),
    [
        ("150.25", 100.0, {"cor_px": 150.25, "source": "auto"}),
        ("", 100.0, {"cor_px": 100.0, "source": "default"}),
        ("", 100.126, {"cor_px": 100.13, "source": "default"}),
        ("250.00", 100.0, {"cor_px": 100.0, "source": "default"}),
        ("", 199.5, None),
        ("", None, None),
    ],
)
def test_row_then_default_then_nothing(after_px, default_px, expected):
    scans = {"c_3": SCANS["c_3"]}
    options = ResolveCorBlock(default_px=default_px)
    table, missing = compute(parse_fixes([row("c_3", after_px)]), scans, options)
    assert table.get("c_3") == expected
    assert list(missing) == ([] if expected else ["c_3"])


def test_block_lists_every_scan_and_what_to_do_and_writes_nothing(tmp_path):
    paths = tables(tmp_path, row("a_1", "295.81"), row("c_3", "", "", "the prediction failed"))
    outputs = [tmp_path / "cor.json", tmp_path / "rot_cen.json"]
    with pytest.raises(TomopipeError) as error:
        resolve_cor(paths, *outputs, SCANS, ResolveCorBlock(default_px=900, on_missing="block"))
    text = str(error.value)
    assert "2 scans have no centre of rotation" in text
    off = "default_px 900.00 is off the detector"
    assert f"  b 2: no COR; {off} (0 to 639)\n" in text  # it is in no table at all
    assert f"  c_3: the prediction failed; {off} (0 to 199)\n" in text
    assert "a_1" not in text
    for remedy in ("tomopipe cor set", "default_px", "select: no", "on_missing: skip"):
        assert remedy in text
    assert not any(path.exists() for path in outputs)


def test_skip_leaves_them_out_and_says_so(tmp_path, caplog):
    paths = tables(tmp_path, row("a_1", "295.81"), row("c_3", "", "", "nothing known"))
    with caplog.at_level(logging.WARNING):
        resolve_cor(paths, tmp_path / "cor.json", tmp_path / "rot.json", SCANS, ResolveCorBlock())
    assert list(json.loads((tmp_path / "cor.json").read_text())) == ["a_1"]
    assert "c_3: skipped, nothing known" in caplog.text
    assert "b 2: skipped, no COR" in caplog.text


def test_nobody_left_is_an_empty_table(tmp_path):
    outputs = [tmp_path / "cor.json", tmp_path / "rot_cen.json"]
    resolve_cor([], *outputs, {}, ResolveCorBlock(on_missing="block"))
    assert [json.loads(path.read_text()) for path in outputs] == [{}, {}]


def test_foreign_tables_are_refused(tmp_path):
    outputs = [tmp_path / "cor.json", tmp_path / "rot_cen.json"]
    (tmp_path / "t.tsv").write_text("scan\tcentre\na_1\t5\n")
    with pytest.raises(TomopipeError, match=r"t\.tsv: expected columns scan, index, before_px"):
        resolve_cor([str(tmp_path / "t.tsv")], *outputs, SCANS, ResolveCorBlock())
