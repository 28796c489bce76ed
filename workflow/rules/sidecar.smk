def sidecars(wildcards):
    return needed("sidecar") if after_cors().cors else []


rule sidecar:
    """Write the resolved COR of each scan, and its source, beside its raw file."""
    input:
        partial(table_receipt, "resolve_cor"),
    output:
        made("sidecar"),
    log:
        LOGS.log("sidecar"),
    localrule: True
    params:
        job=job("sidecar"),
    script:
        "../scripts/sidecar.py"
