from tomopipe.steps import export_stack as export_stack_step

STACK = CAMPAIGN.stack("{scan}")
STACK_META = CAMPAIGN.result("relion", "stacks", "{scan}.json")
# what changes a stack; `hand` only changes the star file
STACK_OPTIONS = CAMPAIGN.config.export_star.model_dump(exclude={"enabled", "hand"})


rule export_stack:
    """Write a scan's projections as the image stack that RELION reads."""
    input:
        raw=raw,
        shared=flats_and_darks,
    output:
        stack=STACK,
        meta=STACK_META,
    log:
        "logs/export_stack/{scan}.log",
    group:
        "stack"
    threads: 2
    resources:
        # blocks of 256 MiB, twice, and the interpreter
        mem_mb=lambda wildcards, attempt: 900 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        raw=raw_signature,
        options=lambda wildcards: as_json(CAMPAIGN.preprocess_options() | STACK_OPTIONS),
        revision=export_stack_step.REVISION,
    script:
        "../scripts/export_stack.py"
