def report_shown():
    """The results on the page, by content; volumes by their statements."""
    scans = alive(CAMPAIGN.selected_scans(inventory_rows()))
    files = [INVENTORY, COR_TABLE, *fix_tables()]
    files += [OUTPUTS.prediction(scan) for scan in scans]
    files += [OUTPUTS.shifts(name) for name in stacks_made()]
    volumes = {scan: digest(volume_wanted(scan)) for scan in resolved()}
    return {path: DECISIONS.content(path) for path in files} | volumes


def report_wanted():
    return made_from.of_report(CAMPAIGN, report_shown())


def report_inputs(wildcards):
    """Only results in the report: those of selected scans, and the tables."""
    scans = alive(CAMPAIGN.selected_scans(inventory_rows()))
    predictions = {OUTPUTS.prediction(scan): prediction_pending(scan) for scan in scans}
    volumes = {CAMPAIGN.volume(scan): volume_pending(scan) for scan in resolved()}
    stacks = {OUTPUTS.shifts(name): stitch_pending(name) for name in stacks_made()}
    cor_table()
    tables = dict.fromkeys([INVENTORY, COR_TABLE, *fix_tables()], False)
    inputs = tables | predictions | volumes | stacks
    if not DECIDES:
        return list(inputs)
    reason = DECISIONS.reason("report", "campaign", [REPORT], report_wanted())
    run_for(reason, [REPORT])
    found = [path if reason or pending else ancient(path) for path, pending in inputs.items()]
    # a failed job that runs again now would be reported as failed finally
    later = reason and default_target()
    return found + (star_set(wildcards) + sidecars(wildcards) if later else [])


rule report:
    """One page on the whole campaign."""
    input:
        report_inputs,
    output:
        report(
            REPORT,
            caption="../report/campaign.rst",
            category="Campaign",
            labels={"page": "report"},
        ),
    log:
        LOGS.log("report"),
    localrule: True
    params:
        config=lambda wildcards: CAMPAIGN.config.as_json("report"),
        made_from=if_known(lambda wildcards: made_from.as_text(report_wanted())),
    script:
        "../scripts/report.py"
