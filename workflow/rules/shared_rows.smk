# Two rules, and no steps: their files end with the run, and only save reading of the raw file.
def shared_by(step):
    """The file that jobs of windows that overlap share, if a job is of one of them."""

    def file_of(wildcards):
        if command_line.is_job() or not run_folder.current():
            return []
        settled = settled_after("resolve_cor" if step == "full_recon" else "inventory")
        shared = job_resources.param(settled, receipt(step, wildcards.scan), "shared")
        return shared["file"] if shared else []

    return file_of


def of_first(step, name):
    """A parameter of the job of the first window."""
    return lambda w: job_resources.param(SETTLED, receipt(step, w.scan), name)


rule shared_rows:
    """Read what sweeps of windows that overlap use, once."""
    input:
        inventory=table("inventory"),
    output:
        run_folder.shared_file("shared_rows", "{scan}"),
    log:
        LOGS.log("shared_rows", "{scan}"),
    threads: requested("try_recon", "threads")
    resources:
        **requests("try_recon"),
    params:
        raw=of_first("try_recon", "raw"),
        options=of_first("try_recon", "options"),
        shared=of_first("try_recon", "shared"),
    script:
        "../scripts/shared_rows.py"


rule shared_frames:
    """Read the frames of windows that overlap once, for their volumes."""
    input:
        cors=table("resolve_cor"),
    output:
        temp(run_folder.shared_file("shared_frames", "{scan}")),
    log:
        LOGS.log("shared_frames", "{scan}"),
    threads: requested("full_recon", "threads")
    resources:
        **requests("full_recon"),
    params:
        raw=of_first("full_recon", "raw"),
        options=of_first("full_recon", "options"),
        shared=of_first("full_recon", "shared"),
    script:
        "../scripts/shared_rows.py"
