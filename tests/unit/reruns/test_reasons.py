"""Why a job runs, in the user's words: nothing is a digest, and nothing is cut."""

from dataclasses import replace

import pytest

from tomopipe.cor.outliers import Fix
from tomopipe.reruns import reasons


def test_an_option_that_is_not_named_has_its_default():
    both = {"revision": 6, "raw": ["x"]}
    old = both | {"options": {"full_recon": {"filter": "hann", "unit": "per_cm"}}}
    new = both | {"options": {"input": {"every": 2}, "full_recon": {"unit": "per_cm"}}}
    assert reasons.of_difference(old, new) == ["filter hann -> ramp", "every 1 -> 2"]
    old, new = {"options": {}}, {"options": {"preprocess": {"stripes": {"method": "vo"}}}}
    assert reasons.of_difference(old, new) == ["stripes.method none -> vo"]


def test_a_value_that_becomes_a_block_or_no_longer_is_one():
    """As of a correction of a site, or in a record that somebody has edited."""
    old, new = ({"options": {"preprocess": {"gain": gain}}} for gain in (1.5, {"loss": 2e-6}))
    assert reasons.of_difference(old, new) == ["gain 1.5 -> default", "gain.loss default -> 2e-06"]
    assert reasons.of_difference(new, old) == ["gain default -> 1.5", "gain.loss 2e-06 -> default"]


def test_an_option_that_the_unit_makes_more_than_metadata_stays():
    size, unit = {"input": {"pixel_size_um": 1.0}}, {"full_recon": {"unit": "per_cm"}}
    old = {"options": {}, "metadata": {"input.pixel_size_um": 1.0}}
    new = {"options": size | unit, "metadata": {}}
    assert reasons.of_difference(old, new) == ["unit per_pixel -> per_cm"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"rows": "1f"}, {"rows": "2e"}, "follows try_recon"),
        ({"revision": 1}, {"revision": 2}, "this version of tomopipe makes it differently"),
    ],
)
def test_digests_and_numbers_of_ours_are_not_shown(old, new, line):
    assert reasons.of_difference(old, new) == [line]


def fix(source):
    return Fix("a", 1, 48.5, 48.5, source, False, "", None)


def member(scan, manual="", select="in"):
    return {"scan": scan, "manual": manual, "select": select, "n_cols": 96}


@pytest.mark.parametrize(
    ("fixes", "members", "line"),
    [
        ({"a": fix("ai")}, [member("a", "50.00")], "COR of a: 48.50 -> 50.00, by hand"),
        ({"a": fix("manual")}, [member("a")], "COR of a: 48.50, by hand, removed"),
        ({"a": fix("manual")}, [member("a", select="donor")], "a left the series"),
        ({"a": fix("ai")}, [member("b")], "a left the series; b is new in the series"),
        ({"a": fix("ai")}, [member("a")], ""),
    ],
)
def test_a_series_is_fixed_anew_for_what_changed_in_it(fixes, members, line):
    assert reasons.of_series(fixes, members) == line
    not_selected = line.replace("a left the series", "a is not selected any more")
    assert reasons.of_series(fixes, members, {"a"}) == not_selected


def test_files_are_looked_at_again_for_what_changed():
    def say(rows, scans):
        return reasons.of_scans(rows, scans, 100)

    assert say(["a", "b"], {"b": 50, "c": 120}) == "new: c; gone: a"
    assert say(["a", "b"], {"a": 120, "b": None}) == "raw file replaced: a"
    assert say(["a"], {"a": 50}) == ""


def test_what_changes_in_the_table_of_a_series_is_named_scan_by_scan():
    before = {n: Fix(n, 1, 50.0, 50.0, "ai", False, "", 10.0) for n in ("a_1", "a_2", "a_3")}
    moved = before | {"a_2": replace(before["a_2"], after_px=51.5, source="line")}
    assert reasons.of_fixes(before, moved) == "COR of a_2: 50.00 -> 51.50, line of the series"
    narrower = {scan: replace(fix, limit_px=9.0) for scan, fix in before.items()}
    same = "CORs stay; remarks or limits change: 3 scans (a_1, a_2, a_3)"
    assert reasons.of_fixes(before, narrower) == same
    assert reasons.of_fixes(before, before).endswith("no COR does")
