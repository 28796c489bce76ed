def sidecars(wildcards):
    return receipts("sidecar") if settled_after("resolve_cor").cors else []


rule sidecar:
    """Write the resolved COR of each scan, and its source, beside its raw file."""
    input:
        cors=table("resolve_cor"),
    output:
        receipt=receipt("sidecar"),
    log:
        LOGS.log("sidecar"),
    localrule: True
    params:
        sidecars=param("sidecars"),
        provenance=param("provenance"),
    script:
        "../scripts/sidecar.py"
