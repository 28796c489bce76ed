import time

from tomopipe.run import command_line, ending

START_TIME = time.time()


def whole_run(wildcards):
    """Nothing; notes that the targets are all results."""
    global is_whole_run
    if not is_whole_run:
        is_whole_run = True
        progress.tell(is_whole=not command_line.cuts())
        beginning.report_totals(SETTLED, is_whole=True)
    return []


def is_of_all():
    """Whether the run was of all results, and ran its jobs."""
    return is_whole_run and command_line.executes() and not command_line.cuts()


onstart:
    ending.obey_stop()


onsuccess:
    ending.after_success(CAMPAIGN, SETTLED, is_whole=is_of_all())


onerror:
    ending.after_failure(CAMPAIGN, log, since=START_TIME, is_whole=is_of_all())
