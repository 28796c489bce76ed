from tomopipe.config.blocks import READ_AS_SUM

if DECIDES and (names := CAMPAIGN.config.predict_cor.earlier_methods):
    print(f"tomopipe: {READ_AS_SUM.format(names=', '.join(names))}", file=sys.stderr)


def networks():
    """Content of the network files in the configuration: a new one makes the job run again."""
    own = CAMPAIGN.config.predict_cor.own_networks
    return {path: DECISIONS.record.raw(path) for path in own}


def prediction_wanted(scan):
    return prediction_statement(scan, known())


@lru_cache(maxsize=None)
def prediction_statement(scan, _known):
    rows = digest(try_wanted(scan))
    return made_from.of_predict_cor(CAMPAIGN, rows, networks())


def prediction_inputs(wildcards):
    scan = wildcards.scan
    rows = OUTPUTS.of_try_recon(scan)[:2]
    files, follows = OUTPUTS.of_predict_cor(scan), try_pending(scan)
    wanted = partial(prediction_wanted, scan)
    return decided("predict_cor", scan, files, wanted, rows, follows=follows)


def try_pending(scan):
    """Whether the rows of a scan must be made."""
    if not DECIDES:
        return False
    files = OUTPUTS.of_try_recon(scan)
    return DECISIONS.reason("try_recon", scan, files, try_wanted(scan), may_be_gone=files[2:])


def prediction_pending(scan):
    """Whether the prediction of a scan must be made."""
    if not DECIDES or scan in CAMPAIGN.failures:
        return False
    files, wanted = OUTPUTS.of_predict_cor(scan), prediction_wanted(scan)
    return try_pending(scan) or DECISIONS.reason("predict_cor", scan, files, wanted)


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
        lambda wildcards: batch("try", wildcards.scan)
    resources:
        mem_mb=lambda wildcards, input, attempt: job_memory.predict_cor_mb(
            input.size_mb, attempt=attempt
        ),
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        options=lambda wildcards: CAMPAIGN.config.as_json("predict_cor"),
        made_from=lambda wildcards: made_from.as_text(prediction_wanted(wildcards.scan)),
    script:
        "../scripts/predict_cor.py"
