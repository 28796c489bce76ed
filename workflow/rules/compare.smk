SUSPECTS = DECISIONS.record.suspects() if DECIDES else []


def compared():
    """Wait for the comparison of files whose time changed, but not their size, if any."""
    if SUSPECTS:
        checkpoints.compare.get()
        take_compared()
    return []


@lru_cache(maxsize=None)
def take_compared():
    # only once: each time a changed raw file gets a new name
    DECISIONS.take_compared(COMPARED)
    DECISIONS.save()  # jobs on nodes read the state of raw files from the record


def compare_inputs(wildcards):
    if SUSPECTS:
        snakemake_internals.force(workflow, [COMPARED], run=True)
    return []


checkpoint compare:
    """Compare the content of files whose time or inode changed, but not their size."""
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
