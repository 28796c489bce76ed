import json

from tomopipe.log import job
from tomopipe.products import making
from tomopipe.steps.resolve_cor import resolve_cor

with job(snakemake.log[0]), making(snakemake.log[0], snakemake.output, snakemake.params):
    resolve_cor(
        list(snakemake.input),
        snakemake.output.cor,
        snakemake.output.rot_cen,
        scans=json.loads(snakemake.params.scans),
        **json.loads(snakemake.params.options),
    )
