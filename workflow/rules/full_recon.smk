from tomopipe.steps import full_recon as full_recon_step

FULL = CAMPAIGN.config.full_recon
VOLUME = CAMPAIGN.volume("{scan}")


def volumes(wildcards):
    return [CAMPAIGN.volume(scan) for scan in resolved()]


def pixel_size_of_volumes(full):
    """The pixel size is an option of the volume only where the volume's values depend on it."""
    if full.unit == "per_pixel":
        return {}
    return {"pixel_size_um": CAMPAIGN.config.export_star.pixel_size_um}


def memory_mb(wildcards, threads, attempt):
    n_angles, n_rows, n_cols = shape_of(wildcards)
    campaign = CAMPAIGN.for_scan(wildcards.scan)
    full = campaign.config.full_recon
    return attempt * full_recon_step.memory_mb(
        n_angles,
        n_cols,
        full.binning,
        n_rows=n_rows,
        output=full.output,
        compression=full.compression,
        algorithm=full.algorithm,
        halo=campaign.correction_halo(inventory_rows()[wildcards.scan]),
        gpus=full.gpus,
        threads=1 if full.device == "cuda" else threads,
    )


def volume_options(wildcards):
    """All options of a scan's volume but its COR, and those that change nothing in it."""
    campaign = CAMPAIGN.for_scan(wildcards.scan)
    full = campaign.config.full_recon
    options = full.model_dump(exclude={"gpus"})
    known = known_angles(wildcards.scan, campaign.preprocess_options())
    return as_json(known | options | pixel_size_of_volumes(full))


def gpus(wildcards):
    return CAMPAIGN.for_scan(wildcards.scan).config.full_recon.gpus


def gpus_to_ask_for(wildcards):
    """With device: auto jobs on one machine share its GPUs out by themselves."""
    device = CAMPAIGN.for_scan(wildcards.scan).config.full_recon.device
    return gpus(wildcards) if device == "cuda" else 0


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
        gpu=gpus_to_ask_for,
        most_gpus=gpus,  # not a param: how many compute changes no volume
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        raw=raw_signature,
        cor_px=lambda wildcards: resolved()[wildcards.scan]["cor_px"],
        options=volume_options,
        revision=full_recon_step.REVISION,
    script:
        "../scripts/full_recon.py"
