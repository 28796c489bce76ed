from pathlib import Path

from tomopipe.campaign.campaign import campaign_from_data
from tomopipe.reruns.making import making
from tomopipe.reruns.sidecars import write_sidecars

with making(snakemake, checks_outputs=False):  # faults of single sidecars are reported at the end
    campaign = campaign_from_data(snakemake.config, Path.cwd())
    write_sidecars(campaign, snakemake.params.with_sidecar)
