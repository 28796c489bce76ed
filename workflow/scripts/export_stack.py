import json

from tomopipe.log import job
from tomopipe.steps.export_stack import export_stack

with job(snakemake.log[0]):
    export_stack(
        snakemake.input.raw,
        snakemake.output.stack,
        snakemake.output.meta,
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        partial=True,
        **json.loads(snakemake.params.options),
    )
