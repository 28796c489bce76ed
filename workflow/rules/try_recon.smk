from tomopipe.cost.batches import try_cores


def try_inputs(wildcards):
    """No file: the content of a raw file counts, not its time or presence."""
    scan = wildcards.scan
    why = partial(try_pending, scan)
    # although nothing asks for them: the try slices are for people, too
    return decided(why, OUTPUTS.of_try_recon(scan), compared(), even_missing=True)


def raw_without_content(scan):
    """The raw files of a scan without a checksum yet."""
    files = WANTED.raw_files(scan)
    known = DECISIONS.record.products
    return [path for path in files if path not in known or not known[path].checksum]


def try_chain(wildcards):
    """try_recon and predict_cor of a scan are one job of a cluster; a GPU is not held for both."""
    return None if DECIDES and uses_gpu("try_recon", wildcards.scan) else "try"


rule try_recon:
    """Reconstruct one slice over the candidate CORs; keep rows for later steps."""
    input:
        try_inputs,
    output:
        stack=OUTPUTS.try_stack("{scan}"),
        sweep=OUTPUTS.sweep("{scan}"),
        rows=OUTPUTS.rows("{scan}"),
    log:
        LOGS.log("try_recon", "{scan}"),
    group:
        try_chain
    threads: lambda wildcards: try_cores(CAMPAIGN.scans[wildcards.scan].n_bytes or 0)
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * job_memory.try_recon_mb(
            CAMPAIGN.scans[wildcards.scan].n_bytes,
            is_corrected=CAMPAIGN.for_scan(wildcards.scan).is_corrected,
        ),
        gpu=lambda wildcards: gpus_to_ask_for("try_recon", wildcards.scan),
        runtime=lambda wildcards, attempt: 20 * attempt,
        batch=20,
        cpu_ms=cpu_ms_of("try_recon"),
    params:
        raw=raw,
        raw_files=lambda wildcards: as_json(raw_without_content(wildcards.scan)),
        options=lambda wildcards: reading_options(wildcards.scan, "try_recon"),
        made_from=lambda wildcards: made_from.as_text(WANTED.of_try_recon(wildcards.scan)),
    script:
        "../scripts/try_recon.py"
