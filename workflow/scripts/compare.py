from pathlib import Path

from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.campaign.log import job
from tomopipe.reruns.compare import compare

with job(snakemake.log[0]):
    campaign = campaign_from_data(snakemake.config, Path.cwd())
    compare(campaign, snakemake.output[0], threads=snakemake.threads)
