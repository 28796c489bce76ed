def report_shown(as_is=False):
    """The results on the page, by content; volumes by their statements."""
    scans = alive(CAMPAIGN.selected_scans(inventory_rows()))
    tables = [INVENTORY, COR_TABLE, *fix_tables()]
    files = [OUTPUTS.prediction(scan) for scan in scans]
    files += [OUTPUTS.shifts(name) for name in stacks_made()]
    volumes = {scan: digest(volume_wanted(scan)) for scan in resolved()}
    where = {path: path if as_is else planned(path) for path in tables}
    where |= {path: path for path in files}
    return {name: DECISIONS.content(path) for name, path in where.items()} | volumes


def report_wanted(*, as_is=False):
    return made_from.of_report(CAMPAIGN, report_shown(as_is))


def report_inputs(wildcards):
    """Only results in the report: those of selected scans, and the tables."""
    scans = alive(CAMPAIGN.selected_scans(inventory_rows()))
    predictions = {path: False for path in map(OUTPUTS.prediction, scans) if os.path.exists(path)}
    if not AFTER_COR:
        predictions = {OUTPUTS.prediction(scan): prediction_pending(scan) for scan in scans}
    volumes = {CAMPAIGN.volume(scan): volume_pending(scan) for scan in resolved()}
    stacks = {OUTPUTS.shifts(name): stitch_pending(name) for name in stacks_made()}
    cor_table()
    tables = dict.fromkeys([INVENTORY, COR_TABLE, *fix_tables()], False)
    inputs = {planned(path): False for path in tables} | predictions | volumes | stacks
    if not DECIDES:
        return list(inputs)
    wanted = report_wanted()
    as_is = report_wanted(as_is=True) if PLANNED else wanted
    reason = DECISIONS.reason("report", "campaign", [REPORT], wanted, as_is=as_is)
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
