import json

from tomopipe.campaign.log import job
from tomopipe.run.products import making
from tomopipe.steps.resolve_cor import resolve_cor

with making(snakemake.log[0], snakemake.output, snakemake.params), job(snakemake.log[0]):
    resolve_cor(
        list(snakemake.input),
        snakemake.output.cor,
        snakemake.output.rot_cen,
        scans=json.loads(snakemake.params.scans),
        **json.loads(snakemake.params.options),
    )
