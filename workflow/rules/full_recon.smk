def volumes(wildcards):
    return receipts("full_recon", settled_after("resolve_cor").cors)


rule full_recon:
    """Reconstruct the whole volume at the resolved COR."""
    input:
        cors=table("resolve_cor"),
        shared=shared_by("full_recon"),
    output:
        receipt=receipt("full_recon", "{scan}"),
    log:
        LOGS.log("full_recon", "{scan}"),
    threads: requested("full_recon", "threads")
    resources:
        **requests("full_recon", batch=10, gpu=True),
    params:
        raw=param("raw"),
        cor=param("cor"),
        options=param("options"),
        metadata_alone=param("metadata_alone"),
        shared=param("shared"),
        volume=OUTPUTS.volume("{scan}", CAMPAIGN.config.full_recon.output),
        provenance=param("provenance"),
    script:
        "../scripts/full_recon.py"
