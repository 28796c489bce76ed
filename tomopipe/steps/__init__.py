"""One module per step of the workflow; a function of the same name reads, computes, writes.

Also how a result states what it was made from; the table of all steps is `tomopipe.workflow_steps`.
"""

from collections.abc import Mapping
from typing import Any


def not_read(made_from: Mapping[str, Any] | None, reason: str) -> dict[str, Any] | None:
    """Return a provenance statement that differs from the target: the next run tries again."""
    return {**made_from, "not_read": reason} if made_from else None


def stated(made_from: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the statement as an entry of a JSON result; {} without a statement."""
    return {"made_from": dict(made_from)} if made_from else {}
