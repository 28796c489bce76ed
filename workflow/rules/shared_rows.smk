def shared_by_sweeps(wildcards):
    """The file that the sweeps of windows that overlap share, if this is one of them."""
    if launch.is_job() or not run_folder.current():
        return []
    settled = settled_after("inventory")
    shared = job_resources.param(settled, receipt("try_recon", wildcards.scan), "shared")
    return shared["file"] if shared else []


def of_first_sweep(name):
    """A parameter of the sweep of the first window."""
    return lambda w: job_resources.param(SETTLED, receipt("try_recon", w.scan), name)


rule shared_rows:
    """Read the frames of windows that overlap once; no step, as its file ends with the run."""
    input:
        inventory=table("inventory"),
    output:
        run_folder.shared_file("{scan}"),
    log:
        LOGS.log("shared_rows", "{scan}"),
    threads: requested("try_recon", "threads")
    resources:
        **requests("try_recon"),
    params:
        raw=of_first_sweep("raw"),
        options=of_first_sweep("options"),
        shared=of_first_sweep("shared"),
    script:
        "../scripts/shared_rows.py"
