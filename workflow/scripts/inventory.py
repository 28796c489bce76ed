from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.steps.inventory import inventory

with making(snakemake) as made:
    inventory(
        made.job["entries"],
        made.products[0],
        StepOptions.model_validate_json(made.job["options"]),
    )
