from tomopipe.run import ending


def everything(wildcards):
    """Nothing; notes that this run is of the whole campaign."""
    if not MAKES_ALL:
        MAKES_ALL.append(True)
        progress.tell(is_whole=not launch.cuts())
        beginning.report_totals(SETTLED, MAKES_ALL)
    return []


onsuccess:
    is_whole = bool(MAKES_ALL) and launch.executes() and not launch.cuts()
    ending.after_success(CAMPAIGN, SETTLED, is_whole=is_whole)


onerror:
    ending.after_failure(CAMPAIGN, log, since=START_TIME)
