rule export_stack:
    """Write a scan's projections as the image stack that RELION reads."""
    input:
        cors=table("resolve_cor"),
    output:
        receipt=receipt("export_stack", "{scan}"),
    log:
        LOGS.log("export_stack", "{scan}"),
    threads: 1
    resources:
        **requests("export_stack", batch=10, attempts_left=True),
    params:
        **computed("export_stack"),
        metadata=OUTPUTS.stack_meta("{scan}"),
        stack=OUTPUTS.stack("{scan}"),
    script:
        "../scripts/export_stack.py"
