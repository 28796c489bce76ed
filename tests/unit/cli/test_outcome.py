from tomopipe.cli.outcome import _table


def test_the_source_is_that_of_the_cor_shown_not_of_a_cell_that_was_ignored():
    ignored = "5000.00 is off the detector (0 to 159)"
    entry = {"scan": "a_1", "source": "manual", "confidence": 1.0, "state": "", "why": ignored}
    columns = _table([entry], {"a_1": (86.12, "ai")}, {}).columns
    shown = {str(column.header): [str(cell) for cell in column.cells] for column in columns}
    assert (shown["COR"], shown["source"], shown["remark"]) == (["86.12"], ["ai"], [ignored])
