STITCHED = OUTPUTS.stitched("{stack}", FULL.output)


def stacks_made():
    """The stacks whose scans all have a COR, by name."""
    return WANTED.stacks(resolved()) if CAMPAIGN.config.stitch.stacks else {}


def stitched(wildcards):
    return [path for name in stacks_made() for path in CAMPAIGN.results_of("stitch", name)]


def scans_of(wildcards):
    """Scans of a stack; none where one of them has just lost its COR (see `cor_of`)."""
    stack = stacks_made().get(wildcards.stack)
    return stack.scans if stack else []


def stitch_memory_mb(wildcards, attempt):
    if not scans_of(wildcards):
        return 0
    scan = scans_of(wildcards)[0]
    n_cols = int(read_inventory(INVENTORY)[scan]["n_cols"])
    options = CAMPAIGN.for_scan(scan).config.full_recon
    return attempt * job_memory.stitch_mb(n_cols, options, is_half=is_half(scan))


def stitch_wanted(name):
    stack = stacks_made().get(name)
    return WANTED.of_stitch(stack, resolved()) if stack else {}


def stitch_reason(stack):
    return WANTED.why(WANTED.of_stitch(stack, resolved()), stack.name)


def stitch_pending(name):
    """Whether a stitched volume must be made."""
    if not DECIDES:
        return False
    stack = stacks_made()[name]
    return any(map(volume_pending, stack.scans)) or stitch_reason(stack)


def stitch_inputs(wildcards):
    if not scans_of(wildcards):
        return []
    stack = stacks_made()[wildcards.stack]
    follows = DECIDES and any(map(volume_pending, stack.scans))
    why = partial(stitch_reason, stack)
    volumes = [CAMPAIGN.volume(scan) for scan in stack.scans]
    return decided(why, CAMPAIGN.results_of("stitch", stack.name), volumes, follows=follows)


rule stitch:
    """Stitch the volumes of scans at several heights into one, where they overlap."""
    input:
        volumes=stitch_inputs,
        # not read: makes Snakemake re-evaluate this job when it changes
        cor=lambda wildcards: ancient(cor_table()),
    output:
        volume=STITCHED if FULL.output == "h5" else directory(STITCHED),
        shifts=OUTPUTS.shifts("{stack}"),
    log:
        LOGS.log("stitch", "{stack}"),
    resources:
        mem_mb=stitch_memory_mb,
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        scans=if_known(lambda wildcards: as_json(scans_of(wildcards))),
        options=lambda wildcards: CAMPAIGN.config.as_json("stitch", "full_recon"),
        made_from=if_known(lambda wildcards: made_from.as_text(stitch_wanted(wildcards.stack))),
        replaces=True,
    script:
        "../scripts/stitch.py"
