"""The plan of the next run, for the review page."""

import threading
from dataclasses import asdict
from typing import Any

from tomopipe.campaign.campaign import load_campaign
from tomopipe.errors import TomopipeError
from tomopipe.review.store import Store
from tomopipe.run.cost import total
from tomopipe.run.next_run import as_records, folded, make_plan

_ONE = threading.Lock()  # a plan takes the cores from the pictures


def plan_of(store: Store) -> dict[str, Any]:
    """Return what the next run will redo, by the campaign table as it is now."""
    with _ONE:
        try:
            plan = make_plan(load_campaign(store.directory, store.config), store.record())
        except TomopipeError:
            raise
        except Exception as error:  # any error: the person waits for an answer
            raise TomopipeError(f"no plan: {str(error) or type(error).__name__}") from error
    core_h = total(plan.costs).core_h if plan.costs else None
    return {
        "jobs": as_records(plan),
        "counts": plan.counts,
        "rows": [asdict(row) for row in folded(plan.jobs)],
        "failures": list(plan.failures),
        "blocked": plan.blocked,
        "seconds": core_h and 3600 * core_h,
        "bytes": plan.n_bytes,
    }
