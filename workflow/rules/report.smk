def page(wildcards):
    after_cors()
    return needed("report") if CAMPAIGN.config.report.enabled else []


def report_inputs(wildcards):
    """What is on the page; one to be made comes last in a run, as it names what failed."""
    shown = [*predictions_of_all(wildcards), *volumes(wildcards), *stitched(wildcards)]
    is_last = MAKES_ALL and not os.path.lexists(made("report"))
    return shown + (star_set(wildcards) + sidecars(wildcards) if is_last else [])


rule report:
    """One page on the whole campaign."""
    input:
        partial(table_receipt, "resolve_cor"),
        report_inputs,
    output:
        made("report"),
    log:
        LOGS.log("report"),
    localrule: True
    params:
        product=OUTPUTS.report,
        job=job("report"),
    script:
        "../scripts/report.py"
