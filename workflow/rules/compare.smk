SUSPECTS = DECISIONS.record.suspects() if DECIDES and not PLANNED else []


def compared():
    """Wait for the comparing of files whose time changed, though not their size, if there are any."""
    if SUSPECTS:
        checkpoints.compare.get()
        take_compared()
    return []


@lru_cache(maxsize=None)
def take_compared():
    # once: each time a raw file that differs gets a new name
    DECISIONS.take_compared(COMPARED)
    DECISIONS.save()  # jobs on nodes state what the record says of raw files


def compare_inputs(wildcards):
    if SUSPECTS:
        snakemake_internals.force(workflow, [COMPARED], run=True)
    return []


checkpoint compare:
    """Read files whose time or inode changed, though not their size: is the content the same?"""
    input:
        compare_inputs,
    output:
        COMPARED,
    log:
        LOGS.log("compare"),
    threads: 4
    resources:
        mem_mb=1000,
        runtime=lambda wildcards, attempt: 720 * attempt,
    script:
        "../scripts/compare.py"
