import json

from tomopipe.log import job
from tomopipe.steps.stitch import stitch

with job(snakemake.log[0]):
    stitch(
        snakemake.input,
        snakemake.output.volume,
        snakemake.output.shifts,
        stack=snakemake.wildcards.stack,
        scans=json.loads(snakemake.params.scans),
        **json.loads(snakemake.params.options),
    )
