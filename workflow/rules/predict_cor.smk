def prediction_inputs(wildcards):
    scan = wildcards.scan
    rows = OUTPUTS.of_try_recon(scan)[:2]
    why = partial(prediction_reason, scan)
    return decided(why, OUTPUTS.of_predict_cor(scan), rows, follows=try_pending(scan))


def try_pending(scan):
    """Whether the rows of a scan must be made."""
    return DECIDES and WANTED.why(WANTED.of_try_recon(scan), scan)


def prediction_reason(scan):
    return WANTED.why_predict_cor(scan)


def prediction_pending(scan):
    """Whether the prediction of a scan must be made."""
    if not DECIDES or scan in CAMPAIGN.failures:
        return False
    return try_pending(scan) or prediction_reason(scan)


def prediction_options(scan):
    """Its own options; the roll that the rows are corrected by, and the rows of the volume."""
    config = CAMPAIGN.for_scan(scan).config
    return config.as_json("predict_cor", "preprocess", "full_recon")


rule predict_cor:
    """Find the COR by the configured methods; accept it only if one of them is confident."""
    input:
        prediction_inputs,
    output:
        prediction=OUTPUTS.prediction("{scan}"),
        center=OUTPUTS.center("{scan}"),
    log:
        LOGS.log("predict_cor", "{scan}"),
    group:
        "try"
    resources:
        mem_mb=lambda wildcards, input, attempt: attempt * job_memory.predict_cor_mb(input.size_mb),
        runtime=lambda wildcards, attempt: 10 * attempt,
        batch=20,
        cpu_ms=cpu_ms_of("predict_cor"),
    params:
        options=lambda wildcards: prediction_options(wildcards.scan),
        made_from=lambda wildcards: made_from.as_text(WANTED.of_predict_cor(wildcards.scan)),
    script:
        "../scripts/predict_cor.py"
