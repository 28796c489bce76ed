def stacks():
    """The stacks whose scans all have a COR, by name."""
    return settled_after("resolve_cor").target.stacks()


def stitched_volumes(wildcards):
    return receipts("stitch", stacks())


def volumes_of_stack(wildcards):
    if launch.is_job():
        return []
    targets.refuse_unknown(SETTLED, "stitch", wildcards)
    stack = stacks().get(wildcards.stack)
    return receipts("full_recon", stack.scans) if stack else []


rule stitch:
    """Stitch the volumes of scans at several heights into one, where they overlap."""
    input:
        volumes=volumes_of_stack,
    output:
        receipt=receipt("stitch", "{stack}"),
    log:
        LOGS.log("stitch", "{stack}"),
    resources:
        **requests("stitch"),
    params:
        volumes=param("volumes"),
        options=param("options"),
        metadata_alone=param("metadata_alone"),
        shifts=OUTPUTS.shifts("{stack}"),
        stitched=OUTPUTS.stitched("{stack}", CAMPAIGN.config.full_recon.output),
        provenance=param("provenance"),
    script:
        "../scripts/stitch.py"
