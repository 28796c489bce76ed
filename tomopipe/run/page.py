"""The page about a campaign, written at the end of a run or by a command, and its receipt."""

from contextlib import suppress
from pathlib import Path

from tomopipe.campaign.campaign import Campaign
from tomopipe.campaign.results import read_inventory
from tomopipe.errors import TomopipeError, is_of_the_system
from tomopipe.reruns.failed_results import why_again
from tomopipe.reruns.foreign import keep_others
from tomopipe.reruns.receipts import Receipts, digest, statement_in
from tomopipe.reruns.settle import Settled
from tomopipe.run import progress
from tomopipe.run.unfinished import relion_notes


def renew_page(settled: Settled) -> None:
    """Write the page again if its content has changed since its job, as after a failed stack."""
    campaign = settled.campaign
    if not campaign.config.report.enabled or settled.pending:
        return
    target = settled.target.statement("report")
    stated = statement_in(campaign.directory / campaign.outputs.receipt("report"))
    if stated is None or digest(stated) != digest(target):
        write_page(campaign, settled)


def record_page(campaign: Campaign, settled: Settled | None = None) -> None:
    """Write the receipt of a page that no job has written; without a decision a stale one.

    Errors are ignored, as in the campaign of another user.
    """
    with suppress(OSError, TomopipeError):
        if not campaign.files.report.exists():
            return
        if settled and not settled.pending:
            stated = settled.target.statement("report")
        else:
            stated = {"step": "report"}
        receipts = settled.receipts if settled else Receipts(campaign.directory, campaign.outputs)
        receipts.write("report", "campaign", stated, [campaign.outputs.report])
        receipts.save()


def write_page(campaign: Campaign, settled: Settled | None = None) -> None:
    """Write the report at the end of a run, and its receipt as `record_page` does."""
    try:
        report_campaign(campaign, campaign.files.report)
    except Exception as error:  # Snakemake drops exceptions raised here
        progress.say(f"the report could not be written: {error}")
    else:
        record_page(campaign, settled)


def has_ended(campaign: Campaign) -> bool:
    """Tell whether the next run has at most to write the page: then no edit is pending."""
    try:
        return all(job.rule == "report" for job in Settled(campaign).jobs)
    except (OSError, TomopipeError):
        return False


def report_campaign(campaign: Campaign, output: str | Path) -> list[str]:
    """Write the report of the existing results; return the files that could not be read."""
    from tomopipe.steps.report import report

    keep_others(output)
    notes, unread = {}, set[str]()
    try:
        notes = relion_notes(campaign, read_inventory(campaign.files.inventory))
    except (OSError, TomopipeError) as error:
        unread = {campaign.outputs.inventory} if is_of_the_system(error) else set()
    return sorted({*unread, *report(output, campaign, notes=notes, why=why_again(campaign))})
