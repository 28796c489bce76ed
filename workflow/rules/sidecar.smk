from tomopipe.steps import sidecar as sidecar_step


localrules:
    sidecar,


def sidecars(wildcards):
    return [CAMPAIGN.sidecar(scan) for scan in resolved()]


def sidecar_content(wildcards):
    """The facts that the sidecar states, as one text: it is written again only when they change."""
    return as_json(
        sidecar_step.sidecar_content(
            wildcards.scan,
            resolved()[wildcards.scan],
            fixed_rows().get(wildcards.scan),
            prediction_of(wildcards.scan),
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
