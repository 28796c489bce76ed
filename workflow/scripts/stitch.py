import json

from tomopipe.campaign.log import job
from tomopipe.run.products import making
from tomopipe.steps.stitch import stitch

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0]),
):
    stitch(
        snakemake.input.volumes,
        snakemake.output.volume,
        snakemake.output.shifts,
        stack=snakemake.wildcards.stack,
        scans=json.loads(snakemake.params.scans),
        made_from=json.loads(snakemake.params.made_from),
        **json.loads(snakemake.params.options),
    )
