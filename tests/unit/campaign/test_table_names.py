"""Any names and notes go into the campaign table and come back."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tomopipe.campaign.table import edit_table, read_table

pytestmark = pytest.mark.slow

names = st.text(
    st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=6
)


@settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names, names, max_size=4), names)
def test_what_is_edited_is_read_back_whatever_the_names(tmp_path, notes, last):
    path = tmp_path / "scans.tsv"
    path.unlink(missing_ok=True)
    for scan, note in notes.items():
        edit_table(path, {scan: {"note": note}})
    edit_table(path, {last: {"cor_px": "5"}})
    found = {row.scan: row for row in read_table(path)}
    assert {scan: found[scan].note for scan in notes} == notes
    assert found[last].cor_px == "5"
    assert len(found) == len({*notes, last})
