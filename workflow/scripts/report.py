from pathlib import Path

from tomopipe.campaign.campaign import campaign_from_data, refuse_vanished
from tomopipe.campaign.log import job
from tomopipe.reruns.products import making
from tomopipe.run.ending import report_campaign, table_shown

with (
    making(snakemake.log[0], snakemake.output, snakemake.params) as more,
    job(snakemake.log[0], outputs=snakemake.output),
):
    campaign = campaign_from_data(snakemake.config, Path.cwd())
    refuse_vanished(campaign)  # also where its folders went during the run
    if unread := report_campaign(campaign, snakemake.output[0]):
        more["not_read"] = unread
    if (table := table_shown(campaign)) != snakemake.params.table:
        more["table"] = table  # edited during the run, which went by the earlier one
