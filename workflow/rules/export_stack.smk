from tomopipe.campaign.relion_set import campaign_binning


def stack_pending(scan):
    """Whether the stack of a scan must be made."""
    return DECIDES and WANTED.why(WANTED.of_export_stack(scan), scan)


def stack_inputs(wildcards):
    scan = wildcards.scan
    return decided(partial(stack_pending, scan), OUTPUTS.of_export_stack(scan), [])


def stack_binning(wildcards, threads):
    """The binning of the campaign, decided once from all scans; the job stores it.

    With `threads` among its arguments Snakemake does not compare it: no stack is made again.
    """
    return as_json(campaign_binning(CAMPAIGN, INVENTORY, COR_TABLE))


def stack_memory_mb(wildcards, attempt):
    campaign = CAMPAIGN.for_scan(wildcards.scan)
    if not campaign.is_corrected:
        return attempt * job_memory.export_stack_mb()
    # The file, not the checkpoint, which the Snakemake of a group on a node does not have.
    rows = read_inventory(INVENTORY)
    n_angles, _, n_cols = shape_of(wildcards, rows)
    halo = campaign.correction_halo(rows[wildcards.scan]) or 0
    return attempt * job_memory.export_stack_mb(n_angles, n_cols, halo=halo)


rule export_stack:
    """Write a scan's projections as the image stack that RELION reads."""
    input:
        stack_inputs,
    output:
        stack=OUTPUTS.stack("{scan}"),
        meta=OUTPUTS.stack_meta("{scan}"),
    log:
        LOGS.log("export_stack", "{scan}"),
    threads: 1
    resources:
        mem_mb=stack_memory_mb,
        runtime=lambda wildcards, attempt: 60 * attempt,
        batch=10,
        cpu_ms=cpu_ms_of("export_stack"),
        attempts_left=lambda wildcards, attempt: snakemake_internals.attempts_left(
            workflow, attempt
        ),
    params:
        raw=raw,
        raw_files=lambda wildcards: as_json(WANTED.raw_files(wildcards.scan)),
        options=lambda wildcards: reading_options(wildcards.scan, "export_star"),
        angles=lambda wildcards: as_json(WANTED.angles(wildcards.scan)),
        made_from=lambda wildcards: made_from.as_text(WANTED.of_export_stack(wildcards.scan)),
        binning=stack_binning,
    script:
        "../scripts/export_stack.py"
