from tomopipe.steps import sidecar as sidecar_step


localrules:
    sidecar,


def sidecars(wildcards):
    return [CAMPAIGN.sidecar(scan) for scan in resolved()]


def sidecar_content(wildcards):
    """All that the sidecar says, as one text: it is written again only when this changes."""
    return as_json(
        sidecar_step.sidecar_content(
            wildcards.scan,
            resolved()[wildcards.scan],
            fixed_rows()[wildcards.scan],
            prediction_of(wildcards.scan),
            CAMPAIGN.config.predict_cor.model_dump() | CAMPAIGN.config.fix_cor.model_dump(),
        )
    )


rule sidecar:
    """Write the resolved COR and where it comes from next to the raw file."""
    input:
        ancient(cor_table),
    output:
        "{folder}/{scan}.cor.json",
    params:
        content=sidecar_content,
        revision=sidecar_step.REVISION,
    script:
        "../scripts/sidecar.py"
