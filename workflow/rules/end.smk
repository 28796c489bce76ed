from tomopipe.campaign.failures import not_begun
from tomopipe.campaign.relion_set import failed_stacks
from tomopipe.reruns.products import digest
from tomopipe.run.ending import (
    after_failure,
    remove_temporary,
    say_stacks_skipped,
    say_warnings,
    unfinished_scans,
    write_report,
)


def default_target():
    """Whether the target is everything, not a file or another rule."""
    return snakemake_internals.targets(workflow) == {"all"}


onstart:
    FAILED_BEFORE["why"] = failed_now()
    snakemake_internals.start_without_timers(workflow)
    snakemake_internals.schedule_greedily(workflow)
    if not SUSPECTS:  # after a failed comparison nothing is left to compare
        Path(LOGS.status("compare", "campaign")).unlink(missing_ok=True)
    DECISIONS.save()  # with the records of jobs of killed runs
    os.environ[run_folder.VARIABLE] = str(
        run_folder.begin(Path(CAMPAIGN.config.campaign.results))
    )
    snakemake_internals.send_config(workflow, config)
    snakemake_internals.keep_configfiles(workflow)


def save_record():
    """Write what was found of files also if there was nothing to do."""
    if snakemake_internals.is_dry(workflow):
        return
    if os.path.exists(INVENTORY) and os.path.exists(COR_TABLE):
        scans = CAMPAIGN.to_resolve(read_inventory(INVENTORY))
        if resolve_cor_step.renew_paths(COR_TABLE, OUTPUTS.rot_cen, scans):
            DECISIONS.record.rewritten(OUTPUTS.rot_cen)
    DECISIONS.save()
    if progress.is_read() and default_target():
        progress.tell(unfinished=unfinished_scans(CAMPAIGN))


if DECIDES:
    atexit.register(save_record)


def end_of_run():
    """Read the records of jobs, and end the run: later results of its jobs are dropped."""
    DECISIONS.take_job_records()
    DECISIONS.save()
    for line in run_folder.warnings():
        print(f"tomopipe: {line}", file=sys.stderr)
    run_folder.end_all(CAMPAIGN.results)
    os.environ[run_folder.VARIABLE] = ""


def failed_now():
    """Why scans have no stack for RELION, by scan."""
    return failed_stacks(CAMPAIGN, CAMPAIGN.scans)


FAILED_BEFORE = {}  # at the start of its jobs, if a run has any


def renew_report():
    """Write the page again if stacks failed, or no longer do, which its job may not have seen."""
    if not FAILED_BEFORE:
        return
    enabled = CAMPAIGN.config.report.enabled and os.path.exists(REPORT)
    if enabled and failed_now() != FAILED_BEFORE["why"] and write_report(CAMPAIGN):
        DECISIONS.record.rewritten(REPORT, digest(report_wanted()))
        DECISIONS.save()


onsuccess:
    end_of_run()
    if default_target():
        renew_report()
    remove_temporary(CAMPAIGN)
    if default_target():
        say_stacks_skipped(CAMPAIGN)
        say_warnings(CAMPAIGN)
    unfinished = unfinished_scans(CAMPAIGN) if default_target() else []
    if unfinished:
        for line in unfinished:
            print(f"tomopipe: {line}", file=sys.stderr)
        if not progress.is_read():  # `tomopipe run` names it
            print(f"tomopipe: see {REPORT}", file=sys.stderr)
        raise SystemExit(3)


onerror:
    told_in = next(map(os.path.relpath, log), "Snakemake's log")
    lost = not_begun(os.environ[run_folder.VARIABLE], told_in)
    end_of_run()
    after_failure(CAMPAIGN, log, lost, since=START_TIME)
    # it names failures, which the next run may fix without a change of what else it shows
    DECISIONS.record.rewritten(REPORT, "")


gc.freeze()
gc.enable()
