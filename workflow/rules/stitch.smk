def stacks():
    """The stacks whose scans all have a COR, and those in time of which some have, by name."""
    return settled_after("resolve_cor").target.stacks()


def stitched_volumes(wildcards):
    return receipts("stitch", stacks())


def volumes_of_stack(wildcards):
    if command_line.is_job():
        return []
    targets.refuse_unknown(SETTLED, "stitch", wildcards)
    stack = stacks().get(wildcards.stack)
    return receipts("full_recon", stack.with_volume) if stack else []


rule stitch:
    """Make one volume of those of scans at several heights, where they overlap, or in time."""
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
        times_s=param("times_s"),
        metadata_alone=param("metadata_alone"),
        shifts=OUTPUTS.shifts("{stack}"),
        stitched=lambda w: OUTPUTS.stitched(w.stack, CAMPAIGN.config.format_of(w.stack)),
        provenance=param("provenance"),
    script:
        "../scripts/stitch.py"
