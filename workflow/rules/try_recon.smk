rule try_recon:
    """Reconstruct one slice over the candidate CORs; keep rows for later steps."""
    input:
        inventory=table("inventory"),
        shared=shared_by("try_recon"),
    output:
        receipt=receipt("try_recon", "{scan}"),
    log:
        LOGS.log("try_recon", "{scan}"),
    group:
        "try"
    threads: requested("try_recon", "threads")
    resources:
        **requests("try_recon", batch=20, gpu=True),
    params:
        raw=param("raw"),
        options=param("options"),
        shared=param("shared"),
        rows=OUTPUTS.rows("{scan}"),
        sweep=OUTPUTS.sweep("{scan}"),
        stack=OUTPUTS.try_stack("{scan}"),
        provenance=param("provenance"),
    script:
        "../scripts/try_recon.py"
