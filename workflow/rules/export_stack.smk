from tomopipe.steps import export_stack as export_stack_step

STACK = CAMPAIGN.stack("{scan}")
STACK_META = CAMPAIGN.result("relion", "stacks", "{scan}.json")
# what changes a stack; `hand` only changes the star file
STACK_OPTIONS = CAMPAIGN.config.export_star.model_dump(exclude={"enabled", "hand"})


def stack_options(wildcards):
    """All options of a stack: of the preprocess options those of slices change none."""
    options = CAMPAIGN.for_scan(wildcards.scan).preprocess_options()
    options.pop("half_acquisition", None)
    return as_json(known_angles(wildcards.scan, options) | STACK_OPTIONS)


def stack_memory_mb(wildcards, attempt):
    """Blocks of 256 MiB, twice, and the interpreter; what corrections hold, the halo's rows too."""
    campaign = CAMPAIGN.for_scan(wildcards.scan)
    if not campaign.is_corrected:
        return 900 * attempt
    # Past the checkpoint, as all stacks are, and not through it: the Snakemake that runs a group on
    # a node does not know it, and fails.
    rows = read_inventory(foreseen(INVENTORY))
    n_angles, n_rows, n_cols = shape_of(wildcards, rows)
    halo = campaign.correction_halo(rows[wildcards.scan]) or 0
    return int((2100 + 8e-6 * halo * n_angles * n_cols) * attempt)


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
        mem_mb=stack_memory_mb,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        raw=raw_signature,
        options=stack_options,
        revision=export_stack_step.REVISION,
    script:
        "../scripts/export_stack.py"
