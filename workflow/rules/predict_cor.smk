def predictions(scans):
    """The receipts of predict_cor of the scans of which the run makes predictions."""
    return needed("predict_cor", SETTLED.target.to_search(scans))


def predictions_of_all(wildcards):
    return predictions(CAMPAIGN.selected_scans(after_inventory().rows))


rule predict_cor:
    """Find the COR by the configured methods; accept it only if one of them is confident."""
    input:
        partial(table_receipt, "inventory"),
        used("try_recon", "{scan}"),
    output:
        made("predict_cor", "{scan}"),
    log:
        LOGS.log("predict_cor", "{scan}"),
    group:
        "try"
    resources:
        mem_mb=asks("predict_cor", "mem_mb"),
        runtime=takes(job_resources.runtime_min, "predict_cor"),
        wall_s=takes(job_resources.wall_s, "predict_cor"),
        batch=20,
        cpu_ms=cpu_ms("predict_cor"),
    params:
        product=OUTPUTS.of_predict_cor("{scan}"),
        job=job("predict_cor"),
    script:
        "../scripts/predict_cor.py"
