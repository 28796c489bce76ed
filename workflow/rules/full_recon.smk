from tomopipe.cost.batches import volume_cores

FULL = CAMPAIGN.config.full_recon
VOLUME = CAMPAIGN.volume("{scan}")


def volumes(wildcards):
    return [CAMPAIGN.volume(scan) for scan in resolved()]


def is_half(scan):
    """Whether the slices of a scan, at its COR, are twice as wide as the detector."""
    from tomopipe.cost.disk import is_half_volume

    return is_half_volume(CAMPAIGN, inventory_rows()[scan], cor_of(scan)["cor_px"])


def memory_mb(wildcards, threads, attempt):
    campaign = CAMPAIGN.for_scan(wildcards.scan)
    return attempt * job_memory.full_recon_mb(
        shape_of(wildcards),
        campaign.config.full_recon,
        is_half=is_half(wildcards.scan),
        halo=campaign.correction_halo(inventory_rows()[wildcards.scan]),
        threads=threads,
    )


def cores_of_volume(wildcards):
    return volume_cores(shape_of(wildcards), CAMPAIGN.for_scan(wildcards.scan).config.full_recon)


def volume_wanted(scan):
    cor_px = cor_of(scan)["cor_px"]
    return {} if cor_px is None else WANTED.of_full_recon(scan, cor_px)


def volume_pending(scan):
    """Whether the volume of a scan must be made."""
    if not DECIDES or cor_of(scan)["cor_px"] is None:
        return False
    return WANTED.why_full_recon(scan, cor_of(scan))


def volume_inputs(wildcards):
    """cor.json, always ancient: only the COR of this scan counts."""
    if DECIDES:
        run_for(volume_pending(wildcards.scan), [CAMPAIGN.volume(wildcards.scan)])
    return [ancient(cor_table())]


rule full_recon:
    """Reconstruct the whole volume at the resolved COR."""
    input:
        volume_inputs,
    output:
        VOLUME if FULL.output == "h5" else directory(VOLUME),
    log:
        LOGS.log("full_recon", "{scan}"),
    threads: cores_of_volume
    resources:
        mem_mb=memory_mb,
        gpu=lambda wildcards: gpus_to_ask_for("full_recon", wildcards.scan),
        runtime=lambda wildcards, attempt: 120 * attempt,
        batch=10,
        cpu_ms=cpu_ms_of("full_recon"),
    params:
        raw=raw,
        raw_files=lambda wildcards: as_json(WANTED.raw_files(wildcards.scan)),
        cor_px=lambda wildcards: cor_of(wildcards.scan)["cor_px"],
        options=lambda wildcards: reading_options(wildcards.scan, "full_recon", "export_star"),
        angles=lambda wildcards: as_json(WANTED.angles(wildcards.scan)),
        made_from=lambda wildcards: made_from.as_text(volume_wanted(wildcards.scan)),
        replaces=True,
    script:
        "../scripts/full_recon.py"
