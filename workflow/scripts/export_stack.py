import json
from pathlib import Path

from tomopipe.log import job
from tomopipe.steps.export_stack import export_stack, settle_binning

with job(snakemake.log[0]):
    options = json.loads(snakemake.params.options)
    export_stack(
        snakemake.input.raw,
        snakemake.output.stack,
        snakemake.output.meta,
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        partial=True,
        least_binning=settle_binning(
            Path(snakemake.output.meta).parent.parent / "binning.json",
            options["binning"],
            json.loads(snakemake.params.binning),
        ),
        **options,
    )
