def stitched(wildcards):
    return needed("stitch", stacks())


def stacks():
    """The stacks whose scans all have a COR, by name."""
    settled = after_cors()
    return settled.target.stacks() if CAMPAIGN.config.stitch.stacks else {}


def stitch_inputs(wildcards):
    if not IS_MAIN:
        return []
    refuse_unknown(wildcards, "stitch")
    stack = stacks().get(wildcards.stack)
    return needed("full_recon", stack.scans) if stack else []


rule stitch:
    """Stitch the volumes of scans at several heights into one, where they overlap."""
    input:
        volumes=stitch_inputs,
    output:
        made("stitch", "{stack}"),
    log:
        LOGS.log("stitch", "{stack}"),
    resources:
        mem_mb=asks("stitch", "mem_mb"),
        runtime=takes(job_resources.runtime_min, "stitch"),
    params:
        product=[
            OUTPUTS.shifts("{stack}"),
            OUTPUTS.stitched("{stack}", CAMPAIGN.config.full_recon.output),
        ],
        job=job("stitch"),
    script:
        "../scripts/stitch.py"
