"""All that relies on what Snakemake does not promise, tested with the version of constraints."""

from collections.abc import Iterable
from typing import Any


def _decide_ourselves(workflow: Any) -> None:
    """Make a run keep to tomopipe's decisions, wherever its Snakefile was loaded from.

    Snakemake's own record of parameters, inputs and code triggers nothing; results that are there
    are whole, so that those of a failed job need not be removed, nor distrusted. To be called when
    jobs are made: while the Snakefile is parsed there are no settings yet.
    """
    from snakemake.settings.enums import RerunTrigger

    workflow.dag_settings.rerun_triggers = frozenset([RerunTrigger.MTIME])
    workflow.dag_settings.force_incomplete = True
    if workflow.execution_settings is not None:
        workflow.execution_settings.keep_incomplete = True


def force(workflow: Any, outputs: Iterable[str], *, run: bool) -> None:
    """Have the job that makes these files run, or not, whatever their times are."""
    _decide_ourselves(workflow)
    forced = workflow.dag.forcefiles
    (forced.update if run else forced.difference_update)(list(outputs))


def is_main(workflow: Any) -> bool:
    """Tell whether this is the process that decides which jobs run, not one of a job."""
    return bool(workflow.is_main_process)


def is_dry(workflow: Any) -> bool:
    """Tell whether nothing will be executed."""
    return bool(workflow.dryrun)
