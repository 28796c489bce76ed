from pathlib import Path

from tomopipe.campaign.campaign import campaign_from_data, refuse_vanished
from tomopipe.reruns.making import making
from tomopipe.reruns.parameters import table_shown
from tomopipe.run.page import report_campaign

with making(snakemake) as made:
    campaign = campaign_from_data(snakemake.config, Path.cwd())
    refuse_vanished(campaign)  # also where its folders went during the run
    if unread := report_campaign(campaign, snakemake.params.page):
        made.stated["not_read"] = unread
    if (table := table_shown(campaign)) != snakemake.params.table:
        made.stated["table"] = table  # edited during the run, which went by the earlier one
