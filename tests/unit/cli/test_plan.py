"""What `tomopipe plan` prints of a plan; that it equals the run is in tests/workflow."""

from tomopipe.cli import plan as cli
from tomopipe.commands.next_run import Plan
from tomopipe.reruns.reasons import IF_COR, IF_OTHER_COR
from tomopipe.reruns.settle import PlannedJob


def test_what_may_run_is_no_part_of_the_number(capsys):
    """A new scan in a series of seven: one volume is made, the others if their COR changes."""
    new = PlannedJob("full_recon", "a_7", "a", IF_COR, certain=False)
    others = [
        PlannedJob("full_recon", f"a_{i}", "a", IF_OTHER_COR, certain=False) for i in range(6)
    ]
    cli._show(Plan((new, *others), ()))
    assert "\n1 (up to 7) full_recon\n" in capsys.readouterr().out
