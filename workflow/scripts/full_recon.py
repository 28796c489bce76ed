from tomopipe.run.workers import hand_over

hand_over(snakemake)  # if there is a process that has loaded what follows

from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.reruns.receipts import as_text
from tomopipe.resources.memory import Resources, bytes_to_use
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.full_recon import full_recon

params, scan = snakemake.params, snakemake.wildcards.scan
shared = params.shared and params.shared["file"]

with making(snakemake) as made:
    options = StepOptions.model_validate_json(params.options)
    made.status["warning"] = full_recon(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        RawScan(
            params.raw, options.input, options.preprocess, name=scan, partial=True, shared=shared
        ),
        params.volume,
        params.cor,
        options.full_recon,
        pixel_size_um=options.volume_pixel_size_um,
        resources=Resources(
            snakemake.threads,
            bytes_to_use(snakemake.resources.mem_mb),
            # not a param: where temporary files lie changes no volume
            (snakemake.config.get("storage") or {}).get("scratch"),
        ),
        provenance={"made_from": as_text(made.made_from)},
        voxels_of=params.volume if params.metadata_alone else None,
    )
