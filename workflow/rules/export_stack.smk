rule export_stack:
    """Write a scan's projections as the image stack that RELION reads."""
    input:
        partial(table_receipt, "resolve_cor"),
    output:
        made("export_stack", "{scan}"),
    log:
        LOGS.log("export_stack", "{scan}"),
    threads: 1
    resources:
        mem_mb=asks("export_stack", "mem_mb"),
        runtime=takes(job_resources.runtime_min, "export_stack"),
        wall_s=takes(job_resources.wall_s, "export_stack"),
        batch=10,
        cpu_ms=cpu_ms("export_stack"),
        attempts_left=asks("export_stack", "attempts_left"),
    params:
        product=OUTPUTS.of_export_stack("{scan}"),
        job=job("export_stack"),
    script:
        "../scripts/export_stack.py"
