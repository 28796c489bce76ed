import json

from tomopipe.campaign.log import job
from tomopipe.config import StepOptions
from tomopipe.reruns.products import making
from tomopipe.steps.inventory import inventory

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], outputs=snakemake.output),
):
    inventory(
        json.loads(snakemake.params.entries),
        snakemake.output[0],
        StepOptions.model_validate_json(snakemake.params.options),
    )
