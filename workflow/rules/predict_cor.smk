from tomopipe.steps import predict_cor as predict_cor_step


def networks(block):
    """Files of the networks that the configuration names."""
    own = [] if block.model == "shipped" else [block.model]
    return own + ([block.dinov2_checkpoint] if block.dinov2_checkpoint else [])


rule predict_cor:
    """Find the COR by the configured methods; accept it only if one of them is confident."""
    input:
        rows=try_center("{scan}", "rows.h5"),
        sweep=try_center("{scan}", "try.json"),
        # a network that was replaced is asked again
        model=lambda wildcards: networks(CAMPAIGN.config.predict_cor),
    output:
        prediction=try_center("{scan}", "prediction.json"),
        center=try_center("{scan}", "center_of_rotation.txt"),
    log:
        "logs/predict_cor/{scan}.log",
    group:
        "try"
    resources:
        mem_mb=lambda wildcards, input, attempt: int((1000 + 8 * input.size_mb) * attempt),
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        options=lambda wildcards: options(CAMPAIGN.config.predict_cor),
        revision=predict_cor_step.REVISION,
    script:
        "../scripts/predict_cor.py"
