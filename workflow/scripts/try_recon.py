import json

from tomopipe.log import job
from tomopipe.steps.try_recon import try_recon

with job(snakemake.log[0]):
    try_recon(
        snakemake.input.raw,
        snakemake.output.stack,
        snakemake.output.sweep,
        snakemake.output.rows,
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        partial=True,
        threads=snakemake.threads,
        memory_bytes=int(0.8e6 * snakemake.resources.mem_mb),
        **json.loads(snakemake.params.options),
    )
