"""Why the earlier result of a job that failed is stale: then the failure is one of the campaign."""

from functools import cache

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.failures import Why
from tomopipe.campaign.files import IN_FORMATS
from tomopipe.campaign.results import read_cor_json, read_inventory
from tomopipe.errors import TomopipeError
from tomopipe.reruns.reasons import MISSING, UNREADABLE
from tomopipe.reruns.staleness import Staleness
from tomopipe.reruns.target import Cors, Target
from tomopipe.workflow_steps import STEPS, Step


def why_again(campaign: Campaign) -> Why:
    """Return a function that says why an existing result is stale, or "" if it is not.

    To be called only for failed jobs, as its first call takes time.
    """

    @cache
    def staleness() -> Staleness:
        return Staleness(Target(campaign, read_inventory(campaign.files.inventory)))

    @cache
    def why(step: str, key: str) -> str:
        try:
            return _why_failed(staleness(), step, key)
        except FileNotFoundError:  # the tables are to be made first
            return ""
        except (OSError, TomopipeError):
            return UNREADABLE

    return why


def _why_failed(staleness: Staleness, name: str, key: str) -> str:
    """Say why a result is stale; of series and of the campaign only for the inventory."""
    campaign, target, step = staleness.campaign, staleness.target, STEPS[name]
    if step.key in ("series", "campaign"):
        return "" if step.inputs else staleness.why(name)
    if step.key == "scan" and not (key in campaign.scans and key in target.rows):
        return ""
    if step.is_after_cors:
        target.cors = _cors_for(campaign, step, key)
        keys = target.stacks() if step.key == "stack" else target.cors
        if not (key in keys and step.is_enabled(campaign)):
            return ""
    reason = staleness.why(name, key)
    return "another format" if step.last in IN_FORMATS and reason == MISSING else reason


def _cors_for(campaign: Campaign, step: Step, key: str) -> Cors:
    """Return cor.json; of a volume the COR by hand, which it may have before cor.json."""
    scan = campaign.scans[key] if step.of_runs == "volumes" else None
    if scan is None or scan.manual.px is None or not campaign.config.fix_cor.protect_manual:
        return read_cor_json(campaign.files.cor_table)
    return {key: {"cor_px": round(scan.manual.px, 2), "source": "manual"}}
