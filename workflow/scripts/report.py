from pathlib import Path

from tomopipe.campaign.campaign import campaign_from_data, refuse_vanished
from tomopipe.campaign.log import job
from tomopipe.run.campaign_report import report_campaign
from tomopipe.run.products import making

with (
    making(snakemake.log[0], snakemake.output, snakemake.params) as more,
    job(snakemake.log[0]),
):
    campaign = campaign_from_data(snakemake.config, Path.cwd())
    refuse_vanished(campaign)  # also where its folders went during the run
    if unread := report_campaign(campaign, snakemake.output[0]):
        more["not_read"] = unread
