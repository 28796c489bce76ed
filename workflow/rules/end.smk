from tomopipe.ending import (
    after_failure,
    remove_temporary,
    say_stacks_left_out,
    say_warnings,
    scans_without_volume,
)


def default_target():
    """Whether this call was for everything, not for a file or another rule."""
    return set(workflow.dag_settings.targets or {"all"}) == {"all"}


onstart:
    # Snakemake's default limit, 100 jobs a second, starts a timer in each round of scheduling, and
    # the timer another round: every job that ends adds one a second, for good, until they take up
    # a core. Who asks for a limit gets it.
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


onsuccess:
    remove_temporary(CAMPAIGN)
    if default_target():
        say_stacks_left_out(CAMPAIGN)
        say_warnings(CAMPAIGN)
    missing = scans_without_volume(CAMPAIGN) if default_target() else []
    if missing:
        print(
            f"tomopipe: no volume of {', '.join(missing)}; see {REPORT}",
            file=sys.stderr,
        )
        raise SystemExit(3)


onerror:
    after_failure(CAMPAIGN, log, since=START_TIME)
