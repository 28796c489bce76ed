"""Why the next run makes results again that a job failed to replace."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from tomopipe.campaign.campaign import Campaign, read_inventory
from tomopipe.campaign.failures import Why
from tomopipe.campaign.results import read_cor_json
from tomopipe.errors import TomopipeError
from tomopipe.reruns.reasons import MISSING, UNREADABLE

if TYPE_CHECKING:
    from tomopipe.reruns.target import Cors, Target


def why_again(campaign: Campaign) -> Why:
    """Return what says why a result that is there is not as wanted now; "" if it is.

    Ask it of failed jobs alone: the first time it loads what decides on results.
    """

    @cache
    def target() -> "Target":
        from tomopipe.reruns.target import Target  # slow to load

        return Target(campaign, read_inventory(campaign.files.inventory))

    cors = cache(lambda: read_cor_json(campaign.files.cor_table))

    @cache
    def why(step: str, key: str) -> str:
        try:
            return _why(target(), cors, step, key)
        except FileNotFoundError:  # the tables are to be made first
            return ""
        except (OSError, TomopipeError):
            return UNREADABLE

    return why


def _why(target: "Target", cors: Callable[[], "Cors"], step: str, key: str) -> str:
    is_search, campaign = step in ("try_recon", "predict_cor"), target.campaign
    if step == "stitch":
        is_asked = key in target.stacks(cors())
    elif key not in campaign.scans or key not in target.rows:
        is_asked = False
    elif step == "export_stack":
        is_asked = campaign.makes_star and key in cors()
    else:
        is_asked = is_search or (step == "full_recon" and key in cors())
    reason = target.why_step(step, key, {} if is_search else cors()) if is_asked else ""
    return "another format" if (step, reason) == ("full_recon", MISSING) else reason
