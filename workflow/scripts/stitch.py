import json

from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.steps.stitch import stitch

with making(snakemake) as made:
    options = StepOptions.model_validate_json(made.job["options"])
    shifts, volume = made.products
    stitch(
        made.job["volumes"],
        volume,
        shifts,
        options.stitch,
        options.full_recon,
        stack=snakemake.wildcards.stack,
        made_from=json.loads(made.job["made_from"]),
        voxels_of=volume if made.job["metadata_alone"] else None,
    )
