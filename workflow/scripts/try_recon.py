import json

from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.resources.memory import Resources, bytes_to_use
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.try_recon import TryFiles, try_recon

with making(snakemake) as made:
    options = StepOptions.model_validate_json(made.job["options"])
    rows, sweep, stack = made.products
    try_recon(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        RawScan(made.job["raw"], options.input, options.preprocess, partial=True),
        TryFiles(stack, sweep, rows),
        options.try_recon,
        resources=Resources(snakemake.threads, bytes_to_use(snakemake.resources.mem_mb)),
        made_from=json.loads(made.job["made_from"]),
    )
