from tomopipe.campaign.step_files import volume_of


def volumes(wildcards):
    return needed("full_recon", after_cors().cors)


rule full_recon:
    """Reconstruct the whole volume at the resolved COR."""
    input:
        partial(table_receipt, "resolve_cor"),
    output:
        made("full_recon", "{scan}"),
    log:
        LOGS.log("full_recon", "{scan}"),
    threads: asks("full_recon", "threads")
    resources:
        mem_mb=asks("full_recon", "mem_mb"),
        gpu=asks("full_recon", "gpu"),
        runtime=takes(job_resources.runtime_min, "full_recon"),
        wall_s=takes(job_resources.wall_s, "full_recon"),
        batch=10,
        cpu_ms=cpu_ms("full_recon"),
    params:
        product=volume_of(CAMPAIGN, "{scan}"),
        job=job("full_recon"),
    script:
        "../scripts/full_recon.py"
