import json

from tomopipe.campaign.log import job
from tomopipe.run.job_memory import bytes_to_use
from tomopipe.run.products import making
from tomopipe.steps.try_recon import try_recon

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0]),
):
    try_recon(
        snakemake.params.raw,
        snakemake.output.stack,
        snakemake.output.sweep,
        snakemake.output.rows,
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        partial=True,
        threads=snakemake.threads,
        memory_bytes=bytes_to_use(snakemake.resources.mem_mb),
        made_from=json.loads(snakemake.params.made_from),
        **json.loads(snakemake.params.options),
    )
