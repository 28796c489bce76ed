from pathlib import Path

from tomopipe.campaign import campaign_from_data
from tomopipe.compare import compare
from tomopipe.log import job

with job(snakemake.log[0]):
    campaign = campaign_from_data(snakemake.config, Path.cwd())
    compare(campaign, snakemake.output[0], threads=snakemake.threads)
