"""One module per step of the workflow; a function of the same name reads, computes, writes.

Also the revisions of the steps, and how a result states what it was made from.
"""

from collections.abc import Mapping
from typing import Any

#: Increased when the results of the step change in every campaign.
REVISIONS = {
    "inventory": 8,
    "try_recon": 8,
    "predict_cor": 22,
    "fix_cor": 3,
    "resolve_cor": 1,
    "full_recon": 6,
    "stitch": 1,
    "export_stack": 5,
    "export_star": 2,
    "report": 1,
}


def not_read(made_from: Mapping[str, Any] | None, reason: str) -> dict[str, Any] | None:
    """Return a provenance statement that differs from the target: the next run tries again."""
    return {**made_from, "not_read": reason} if made_from else None


def stated(made_from: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the statement as an entry of a JSON result; {} without a statement."""
    return {"made_from": dict(made_from)} if made_from else {}
