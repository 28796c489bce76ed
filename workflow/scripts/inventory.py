from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.steps.inventory import inventory

params = snakemake.params

with making(snakemake):
    inventory(
        params.entries,
        params.inventory,
        StepOptions.model_validate_json(params.options),
    )
