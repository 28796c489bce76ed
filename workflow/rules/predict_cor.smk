def predictions(scans):
    """The receipts of predict_cor of the scans of which the run makes predictions."""
    return receipts("predict_cor", SETTLED.target.selected.to_search(scans))


def predictions_of_all(wildcards):
    return predictions(CAMPAIGN.selected_scans(settled_after("inventory").rows))


rule predict_cor:
    """Find the COR by the configured methods; accept it only if one of them is confident."""
    input:
        inventory=table("inventory"),
        try_recon=used("try_recon", "{scan}"),
    output:
        receipt=receipt("predict_cor", "{scan}"),
    log:
        LOGS.log("predict_cor", "{scan}"),
    group:
        "try"
    resources:
        **requests("predict_cor", batch=20),
    params:
        rows=OUTPUTS.rows("{scan}"),
        sweep=OUTPUTS.sweep("{scan}"),
        options=param("options"),
        prediction=OUTPUTS.prediction("{scan}"),
        center=OUTPUTS.center("{scan}"),
        last_center_checksum=param("last_center_checksum"),
        provenance=param("provenance"),
    script:
        "../scripts/predict_cor.py"
