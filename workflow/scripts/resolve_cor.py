import json

from tomopipe.campaign.log import job
from tomopipe.config import StepOptions
from tomopipe.reruns.products import making
from tomopipe.steps.resolve_cor import resolve_cor

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], outputs=snakemake.output),
):
    resolve_cor(
        list(snakemake.input),
        snakemake.output.cor,
        snakemake.output.rot_cen,
        json.loads(snakemake.params.scans),
        StepOptions.model_validate_json(snakemake.params.options).resolve_cor,
    )
