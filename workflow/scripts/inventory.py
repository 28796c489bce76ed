import json

from tomopipe.log import job
from tomopipe.steps.inventory import inventory

with job(snakemake.log[0]):
    inventory(
        json.loads(snakemake.params.entries),
        snakemake.output[0],
        **json.loads(snakemake.params.options),
    )
