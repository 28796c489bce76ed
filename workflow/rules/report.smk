def page(wildcards):
    settled_after("resolve_cor")
    return receipts("report") if CAMPAIGN.config.report.enabled else []


def results_on_page(wildcards):
    """What is on the page; one to be made comes last in a run, as it names what failed."""
    shown = [*predictions_of_all(wildcards), *volumes(wildcards), *stitched_volumes(wildcards)]
    is_last = is_whole_run and not os.path.lexists(receipt("report"))
    return shown + (star_set(wildcards) + sidecars(wildcards) if is_last else [])


rule report:
    """One page on the whole campaign."""
    input:
        cors=table("resolve_cor"),
        results=results_on_page,
    output:
        receipt=receipt("report"),
    log:
        LOGS.log("report"),
    localrule: True
    params:
        table=param("table"),
        page=OUTPUTS.report,
        provenance=param("provenance"),
    script:
        "../scripts/report.py"
