from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.steps.stitch import stitch

params = snakemake.params

with making(snakemake) as made:
    options = StepOptions.model_validate_json(params.options)
    stitch(
        params.volumes,
        params.stitched,
        params.shifts,
        options.stitch,
        options.full_recon,
        stack=snakemake.wildcards.stack,
        made_from=made.made_from,
        voxels_of=params.stitched if params.metadata_alone else None,
    )
