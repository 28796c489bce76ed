from tomopipe.run.workers import hand_over

hand_over(snakemake)  # if there is a process that has loaded what follows

from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.resources.memory import Resources, bytes_to_use
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.try_recon import TryFiles, try_recon

params = snakemake.params
shared = params.shared and params.shared["file"]

with making(snakemake) as made:
    options = StepOptions.model_validate_json(params.options)
    try_recon(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        RawScan(params.raw, options.input, options.preprocess, partial=True, shared=shared),
        TryFiles(params.stack, params.sweep, params.rows),
        options.try_recon,
        resources=Resources(snakemake.threads, bytes_to_use(snakemake.resources.mem_mb)),
        made_from=made.made_from,
    )
