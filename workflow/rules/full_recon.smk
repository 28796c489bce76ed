from tomopipe.steps import full_recon as full_recon_step

FULL = CAMPAIGN.config.full_recon
VOLUME = CAMPAIGN.volume("{scan}")


def volumes(wildcards):
    return [CAMPAIGN.volume(scan) for scan in resolved()]


def pixel_size_of_volumes():
    """The pixel size is an option of the volume only where the volume's values depend on it."""
    if FULL.unit == "per_pixel":
        return {}
    return {"pixel_size_um": CAMPAIGN.config.export_star.pixel_size_um}


def memory_mb(wildcards, attempt):
    n_angles, n_rows, n_cols = shape_of(wildcards)
    return attempt * full_recon_step.memory_mb(
        n_angles,
        n_cols,
        FULL.binning,
        n_rows=n_rows,
        output=FULL.output,
        compression=FULL.compression,
        algorithm=FULL.algorithm,
        halo=CAMPAIGN.correction_halo(n_rows, n_cols),
    )


rule full_recon:
    """Reconstruct the whole volume at the resolved COR."""
    input:
        raw=raw,
        shared=flats_and_darks,
        cor=ancient(cor_table),
    output:
        VOLUME if FULL.output == "h5" else directory(VOLUME),
    log:
        "logs/full_recon/{scan}.log",
    threads: 16
    resources:
        mem_mb=memory_mb,
        # with device: auto jobs on one machine share its GPUs out by themselves
        gpu=int(FULL.device == "cuda"),
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        raw=raw_signature,
        cor_px=lambda wildcards: resolved()[wildcards.scan]["cor_px"],
        options=lambda wildcards: as_json(
            CAMPAIGN.preprocess_options() | FULL.model_dump() | pixel_size_of_volumes()
        ),
        revision=full_recon_step.REVISION,
    script:
        "../scripts/full_recon.py"
