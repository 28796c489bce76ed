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
        raw=param("raw"),
        options=param("options"),
        binning=param("binning"),
        metadata_alone=param("metadata_alone"),
        metadata=OUTPUTS.stack_meta("{scan}"),
        stack=OUTPUTS.stack("{scan}"),
        provenance=param("provenance"),
    script:
        "../scripts/export_stack.py"
