import json

from tomopipe.campaign.log import job
from tomopipe.run.job_memory import bytes_to_use
from tomopipe.run.products import making
from tomopipe.run.stated import content_of
from tomopipe.steps.full_recon import full_recon

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0]),
):
    full_recon(
        snakemake.params.raw,
        snakemake.output[0],
        cor_px=snakemake.params.cor_px,
        cor_json=snakemake.input[0],
        scan=snakemake.wildcards.scan,
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        partial=True,
        threads=snakemake.threads,
        memory_bytes=bytes_to_use(snakemake.resources.mem_mb),
        # not a param: where temporary files lie changes no volume
        scratch=(snakemake.config.get("storage") or {}).get("scratch"),
        provenance={"made_from": snakemake.params.made_from},
        voxels_of=content_of(snakemake.output[0], snakemake.params),
        **json.loads(snakemake.params.options),
    )
