import json
from pathlib import Path

from tomopipe.campaign.log import job
from tomopipe.config import StepOptions
from tomopipe.reruns.products import making
from tomopipe.steps.fix_cor import fix_cor

# inputs come in pairs, prediction.json and center_of_rotation.txt of one scan after the other
predictions, centers = snakemake.input[0::2], snakemake.input[1::2]

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], outputs=snakemake.output),
):
    fix_cor(
        {
            Path(text).parent.name: (text, record)
            for record, text in zip(predictions, centers, strict=True)
        },
        snakemake.output[0],
        json.loads(snakemake.params.members),
        StepOptions.model_validate_json(snakemake.params.options).fix_cor,
    )
