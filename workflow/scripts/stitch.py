import json

from tomopipe.campaign.log import job
from tomopipe.config import StepOptions
from tomopipe.reruns.products import making
from tomopipe.reruns.stated import result_to_reuse
from tomopipe.steps.stitch import stitch

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], snakemake.threads, snakemake.resources, snakemake.output) as status,
):
    options = StepOptions.model_validate_json(snakemake.params.options)
    scans = json.loads(snakemake.params.scans)
    earlier = result_to_reuse(snakemake.output.volume, snakemake.params)
    status["wrote_only"] = "metadata" if earlier else ""
    stitch(
        dict(zip(scans, snakemake.input.volumes, strict=True)),
        snakemake.output.volume,
        snakemake.output.shifts,
        options.stitch,
        options.full_recon,
        stack=snakemake.wildcards.stack,
        made_from=json.loads(snakemake.params.made_from),
        voxels_of=earlier,
    )
