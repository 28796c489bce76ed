from tomopipe.steps import try_recon as try_recon_step


rule try_recon:
    """Reconstruct one slice over the candidate CORs; keep the rows that later looking needs."""
    input:
        raw=raw,
        shared=flats_and_darks,
    output:
        stack=try_center("{scan}", "try.tif"),
        sweep=try_center("{scan}", "try.json"),
        rows=try_center("{scan}", "rows.h5"),
    log:
        "logs/try_recon/{scan}.log",
    group:
        "try"
    threads: 2
    resources:
        mem_mb=lambda wildcards, input, attempt: int(
            (1500 + 0.1 * input.size_mb + 1000 * CAMPAIGN.for_scan(wildcards.scan).is_corrected)
            * attempt
        ),
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        raw=raw_signature,
        options=lambda wildcards: as_json(
            CAMPAIGN.for_scan(wildcards.scan).preprocess_options()
            | CAMPAIGN.config.try_recon.model_dump()
            # of an earlier version such a scan was tried at angles that were assumed
            | ({"prove": True} if lacks_angles(wildcards.scan) else {})
        ),
        revision=try_recon_step.REVISION,
    script:
        "../scripts/try_recon.py"
