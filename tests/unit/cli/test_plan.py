"""What `tomopipe plan` prints of a plan; that it equals the run is in tests/workflow."""

import pytest

from tomopipe.cli import plan as cli
from tomopipe.commands.next_run import Plan
from tomopipe.cost.cost import Cost
from tomopipe.reruns.settle import PlannedJob
from tomopipe.reruns.words import IF_COR, IF_OTHER_COR

JOB = PlannedJob("full_recon", "a_1", "a", "not there yet")
VOLUME = Cost("full_recon", 1, 12.0, 0.0, 4 * 10**9)


def test_what_may_run_is_no_part_of_the_number(capsys):
    """A new scan in a series of seven: one volume is made, the others if their COR changes."""
    new = PlannedJob("full_recon", "a_7", "a", IF_COR, certain=False)
    others = [
        PlannedJob("full_recon", f"a_{i}", "a", IF_OTHER_COR, certain=False) for i in range(6)
    ]
    most = Cost("full_recon", 7, 84.0, 0.0, 28 * 10**9)
    cli._show(Plan((new, *others), (), costs=(VOLUME,), most=(most,)))
    text = capsys.readouterr().out
    assert "\n1 (up to 7) full_recon\n" in text
    assert "12.00 (up to 84.00)" in text
    assert "4.00 (up to 28.00)" in text


@pytest.mark.parametrize(
    ("certain_h", "shown"),
    [(1e-5, "< 0.01 (up to 84.00)"), (0.0, "up to 84.00"), (None, "unknown")],
)
def test_hours_that_are_few_or_unknown_may_become_more(capsys, certain_h, shown):
    cost = Cost("full_recon", 1, certain_h, 0.0, 4 * 10**9)
    most = Cost("full_recon", 7, certain_h if certain_h is None else 84.0, 0.0, 28 * 10**9)
    cli._show(Plan((JOB,), (), costs=(cost,), most=(most,)))
    assert f"1 (up to 7)   {shown} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("costs", "words", "missing"),
    [
        ([VOLUME], ["12.00", "4.00"], ["GPU", "all"]),
        ([VOLUME, Cost("export_stack", 1, 1e-5, 0.0, 0)], ["< 0.01", "all"], ["GPU"]),
        ([Cost("full_recon", 1, 0.5, 0.5, 0)], ["GPU hours", "0.50"], []),
        ([Cost("full_recon", 1, None, None, 0)], ["unknown"], ["GPU"]),
    ],
)
def test_the_table_of_costs_shows_what_is_used(capsys, costs, words, missing):
    cli._show(Plan((JOB,), (), costs=tuple(costs), most=tuple(costs)))
    text = capsys.readouterr().out
    assert "a_1" in text
    assert all(word in text for word in words), text
    assert not any(word in text for word in missing), text
