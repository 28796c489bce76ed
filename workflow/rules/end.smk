from tomopipe.run import ending


def everything(wildcards):
    """Nothing; notes that this run is of the whole campaign."""
    if not MAKES_ALL:
        MAKES_ALL.append(True)
        progress.tell(is_whole=True)
        tell_totals()
    return []


onsuccess:
    ending.after_success(CAMPAIGN, SETTLED, is_whole=bool(MAKES_ALL))


onerror:
    ending.after_failure(CAMPAIGN, log, since=START_TIME)
