rule try_recon:
    """Reconstruct one slice over the candidate CORs; keep rows for later steps."""
    input:
        partial(table_receipt, "inventory"),
    output:
        made("try_recon", "{scan}"),
    log:
        LOGS.log("try_recon", "{scan}"),
    group:
        "try"
    threads: asks("try_recon", "threads")
    resources:
        mem_mb=asks("try_recon", "mem_mb"),
        gpu=asks("try_recon", "gpu"),
        runtime=takes(job_resources.runtime_min, "try_recon"),
        wall_s=takes(job_resources.wall_s, "try_recon"),
        batch=20,
        cpu_ms=cpu_ms("try_recon"),
    params:
        product=OUTPUTS.of_try_recon("{scan}"),
        job=job("try_recon"),
    script:
        "../scripts/try_recon.py"
