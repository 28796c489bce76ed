from tomopipe.campaign.campaign import load_campaign
from tomopipe.cli.outcome import _places, _table


def test_the_source_is_that_of_the_cor_shown_not_of_a_cell_that_was_ignored():
    ignored = "5000.00 is off the detector (0 to 159)"
    entry = {"scan": "a_1", "source": "manual", "confidence": 1.0, "state": "", "why": ignored}
    columns = _table([entry], {"a_1": (86.12, "ai")}, {}).columns
    shown = {str(column.header): [str(cell) for cell in column.cells] for column in columns}
    assert (shown["COR"], shown["source"], shown["remark"]) == (["86.12"], ["ai"], [ignored])


def test_volumes_are_named_where_there_are_any(tmp_path):
    (tmp_path / "config.yaml").write_text("campaign: {scans: [raw/*.h5]}\n")
    assert _places(load_campaign(tmp_path), []) == ""
    (tmp_path / "results" / "stitched").mkdir(parents=True)
    (tmp_path / "results" / "stitched" / "bone_rec.h5").touch()
    (tmp_path / "results" / "a_1_rec.h5").touch()
    shown = _places(load_campaign(tmp_path), ["a_1"])
    assert "results/<scan>_rec.h5" in shown
    assert "results/stitched/<stack>_rec.h5" in shown
    # not those of scans without a COR
    assert "<scan>" not in _places(load_campaign(tmp_path), [])
