"""With the keys of docs/how-to/other-programs.md CORs are those of TomoGUI's rules, literally."""

import json
import re
from functools import cache
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest
import yaml

from tomopipe.config import parse_config
from tomopipe.cor.ai.model_card import shipped_sha256
from tomopipe.errors import TomopipeError
from tomopipe.steps.fix_cor import compute, fix_cor
from tomopipe.steps.inventory import reference_size, undersized
from tomopipe.steps.resolve_cor import resolve_cor

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "other-programs.md"
N_COLS = 2048


@cache
def keys():
    """Return the keys of the table that give TomoGUI's behaviour, as (block, key, value)."""
    table = (
        PAGE.read_text("utf-8").partition("the keys for its behaviour:")[2].partition("\n\nW")[0]
    )
    blocks = [yaml.safe_load(text) for text in re.findall(r"`(\w+: \{.*?\})`", table)]
    return [
        (name, *entry) for block in blocks for name, of in block.items() for entry in of.items()
    ]


def config(*, without=None):
    blocks = {"campaign": {"scans": ["raw/*.h5"]}}
    for block, key, value in keys():
        if key != without:
            blocks.setdefault(block, {})[key] = value
    return parse_config(blocks)


def literal(rows):
    """Fix CORs by the manual's section "Fix COR Outliers"; rows are (cor_px or None, checked).

    A gap between two good neighbours is filled as TomoGUI's source does, not its manual.
    """
    checked = [k for k, (_, is_checked) in enumerate(rows) if is_checked]
    valid = [k for k in checked if rows[k][0] is not None]
    flagged = set()
    if len(valid) >= 2:
        middle = median(rows[k][0] for k in valid)
        mad = median(abs(rows[k][0] - middle) for k in valid)
        limit = min(50, max(10, 5 * mad))
        flagged = {k for k in valid if abs(rows[k][0] - middle) > limit}
    good = [k for k in valid if k not in flagged]
    result, filled = {k: cor_px for k, (cor_px, _) in enumerate(rows)}, {}
    for k in checked:
        before, after = [g for g in good if g < k][-1:], [g for g in good if g > k][:1]
        near = [rows[g][0] for g in before + after]
        if k in flagged and near:
            result[k] = fmean(near)
        elif rows[k][0] is None and len(near) == 2 and abs(near[0] - near[1]) <= 10:
            filled[k] = fmean(near)
    donors = [cor_px for cor_px in result.values() if cor_px is not None]
    for k in checked:
        if rows[k][0] is None and k not in filled and donors:
            filled[k] = fmean(donors)
    return [(result | filled)[k] for k in checked]


def make_series(folder, seed):
    """Write the predictions of a series, all of them sure; return its rows, and what fix_cor takes.

    A fifth of its CORs is set by hand, a fifth is off, a quarter is missing, and a sixth of its
    scans is unchecked.
    """
    rng = np.random.default_rng([58, seed])
    rows, predicted, members = [], {}, []
    sha256 = shipped_sha256()
    for k in range(int(rng.integers(1, 11))):
        cor_px = 1000 + round(rng.normal(0, rng.choice([0.5, 8, 30])), 1)
        cor_px += float(rng.choice([0, 0, 0, 0, 1]) * rng.choice([-1, 1]) * rng.uniform(11, 200))
        cor_px = None if rng.random() < 0.25 else round(cor_px, 1)
        is_checked = bool(rng.random() > 1 / 6)
        is_manual = cor_px is not None and rng.random() < 0.2
        rows.append((cor_px, is_checked))
        scan = f"s_{k:02d}"
        entry = {"scan": scan, "index": k, "n_cols": N_COLS, "select": "in", "manual": ""}
        if not is_checked:
            entry |= {"select": "donor", "donor_px": cor_px}
        elif is_manual:
            entry["manual"] = f"{cor_px}"
        else:
            files = folder / f"{seed}_{scan}.txt", folder / f"{seed}_{scan}.json"
            files[0].write_text("" if cor_px is None else f"{cor_px:.2f}")
            prediction = {"method": "ai", "confidence": 0.99, "model": {"sha256": sha256}}
            files[1].write_text(json.dumps(prediction | {"cor_px": cor_px, "verdict": "resolved"}))
            predicted[scan] = tuple(map(str, files))
        members.append(entry)
    return rows, predicted, members


def n_differences(folder, options):
    """Count the series of 200 with a COR that differs from TomoGUI's."""
    n = 0
    for seed in range(200):
        rows, predicted, members = make_series(folder, seed)
        fixes = compute(predicted, members, options).values()
        expected = literal(rows)
        assert len(fixes) == len(expected)
        pairs = zip((fix.after_px for fix in fixes), expected, strict=True)
        n += any(own != other and abs((own or 0) - (other or 0)) > 0.0051 for own, other in pairs)
    return n


@pytest.mark.parametrize(
    ("before_px", "after_px"),
    [
        ([1000, 1000, 1100], [1000, 1000, 1000]),
        ([1000, 1000, 1040, 1040], [1000, 1000, 1040, 1040]),
        ([1000, 1200], [1000, 1200]),
        ([1000, None], [1000, 1000]),
        ([1000, None, 1006, 1100], [1000, 1003, 1006, 1006]),
        ([1000, None, 1040], [1000, 1020, 1040]),
    ],
)
def test_the_literal_rules_are_those_of_the_manual(before_px, after_px):
    assert literal([(cor_px, True) for cor_px in before_px]) == after_px


def test_with_the_keys_every_cor_is_that_of_the_literal_rules(tmp_path):
    assert n_differences(tmp_path, config().fix_cor) == 0


@pytest.mark.parametrize("key", ["fill", "protect_confident", "protect_manual"])
def test_without_one_of_the_keys_some_cors_differ(tmp_path, key):
    assert key in {key for _, key, _ in keys()}
    assert n_differences(tmp_path, config(without=key).fix_cor) > 0


def test_a_scan_without_a_cor_stops_the_run(tmp_path):
    """Row, else top bar, else FAIL."""
    members = [{"scan": "s_1", "index": 1, "n_cols": N_COLS, "select": "in", "manual": ""}]
    table, cor_json = tmp_path / "s.tsv", tmp_path / "cor.json"
    fix_cor({}, table, members, config().fix_cor)
    scans = {"s_1": {"path": "s_1.h5", "n_cols": N_COLS}}
    outputs = cor_json, tmp_path / "rot_cen.json", scans
    options = config().resolve_cor
    with pytest.raises(TomopipeError, match="s_1"):
        resolve_cor([table], *outputs, options)
    assert not cor_json.exists()
    resolve_cor([table], *outputs, options.model_copy(update={"default_px": 1024.5}))
    assert json.loads(cor_json.read_text())["s_1"]["cor_px"] == 1024.5
    resolve_cor([table], *outputs, config(without="on_missing").resolve_cor)
    assert json.loads(cor_json.read_text()) == {}


@pytest.mark.parametrize("without", [None, "min_fraction"])
def test_the_aborted_scan_of_a_pair_is_less_than_a_third_of_the_other(without):
    """A quarter to a half are frames of scans that ended before 90 degrees."""
    min_fraction = config(without=without).inventory.min_fraction
    skipped = [
        undersized(
            n_small, 90.0, reference=reference_size([n_large, n_small]), min_fraction=min_fraction
        )
        for n_large in (40, 900, 3000)
        for n_small in range(n_large // 4, n_large // 2)
    ]
    by_the_manual = [
        3 * n_small < n_large
        for n_large in (40, 900, 3000)
        for n_small in range(n_large // 4, n_large // 2)
    ]
    assert (skipped == by_the_manual) is (without is None)
