import json

from tomopipe.log import job
from tomopipe.products import making
from tomopipe.steps.inventory import inventory

with (
    job(snakemake.log[0]),
    making(snakemake.log[0], snakemake.output, snakemake.params),
):
    inventory(
        json.loads(snakemake.params.entries),
        snakemake.output[0],
        **json.loads(snakemake.params.options),
    )
