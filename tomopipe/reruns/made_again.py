"""Why the next run makes results again that a job failed to replace."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from tomopipe.campaign.campaign import Campaign, InventoryRows, read_inventory
from tomopipe.campaign.counted_jobs import Why
from tomopipe.campaign.results import read_cor_json
from tomopipe.errors import TomopipeError
from tomopipe.reruns.words import MISSING, UNREADABLE

if TYPE_CHECKING:
    from tomopipe.reruns.wanted import Cors, Wanted


def wanted_now(campaign: Campaign, rows: InventoryRows) -> "Wanted":
    """Return what results must be made from by the present files, outside of a run."""
    from tomopipe.reruns.decisions import Decisions
    from tomopipe.reruns.wanted import Wanted  # slow to load

    return Wanted(campaign, Decisions(campaign), lambda: rows)


def why_again(campaign: Campaign) -> Why:
    """Return what says why a result that is there is not as wanted now; "" if it is.

    Ask it of failed jobs alone: the first time it loads what decides on results.
    """
    target = cache(lambda: wanted_now(campaign, read_inventory(campaign.files.inventory)))
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


def _why(target: "Wanted", cors: Callable[[], "Cors"], step: str, key: str) -> str:
    if step == "stitch":
        stack = target.stacks(cors()).get(key)
        return target.why(target.of_stitch(stack, cors()), key) if stack else ""
    if key not in target.campaign.scans or key not in target.rows:
        return ""
    if step in ("try_recon", "predict_cor"):
        is_try = step == "try_recon"
        return target.why(target.of_try_recon(key), key) if is_try else target.why_predict_cor(key)
    cor = cors().get(key)
    if cor is None:
        return ""
    if step == "full_recon":
        reason = target.why_full_recon(key, cor)
        return "another format" if reason == MISSING else reason
    is_of_set = step == "export_stack" and target.campaign.config.export_star.enabled
    return target.why(target.of_export_stack(key), key) if is_of_set else ""
