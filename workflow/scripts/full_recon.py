from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.resources.memory import Resources, bytes_to_use
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.full_recon import full_recon

with making(snakemake) as made:
    scan = snakemake.wildcards.scan
    options = StepOptions.model_validate_json(made.job["options"])
    volume = made.products[0]
    made.status["warning"] = full_recon(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        RawScan(made.job["raw"], options.input, options.preprocess, name=scan, partial=True),
        volume,
        {"cor_px": made.job["cor_px"], "source": made.job["source"]},
        options.full_recon,
        pixel_size_um=options.volume_pixel_size_um,
        resources=Resources(
            snakemake.threads,
            bytes_to_use(snakemake.resources.mem_mb),
            # not a param: where temporary files lie changes no volume
            (snakemake.config.get("storage") or {}).get("scratch"),
        ),
        provenance={"made_from": made.job["made_from"]},
        voxels_of=volume if made.job["metadata_alone"] else None,
    )
