from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.steps.stitch import stitch
from tomopipe.steps.stitch_time import stitch_time

params = snakemake.params

with making(snakemake) as made:
    options = StepOptions.model_validate_json(params.options)
    files = params.volumes, params.stitched, params.shifts
    stack = {"stack": snakemake.wildcards.stack, "made_from": made.made_from}
    if params.times_s is None:
        voxels_of = params.stitched if params.metadata_alone else None
        stitch(*files, options.stitch, options.full_recon, **stack, voxels_of=voxels_of)
    else:
        stitch_time(*files, options.full_recon, times_s=params.times_s, **stack)
