from tomopipe.run.ending import table_shown


def report_wanted():
    inventory_rows()
    return WANTED.of_report(resolved(), DECISIONS.record.content)


def report_inputs(wildcards):
    """Only results in the report: those of selected scans, and the tables."""
    scans = WANTED.to_search(CAMPAIGN.selected_scans(inventory_rows()))
    predictions = {OUTPUTS.prediction(scan): prediction_pending(scan) for scan in scans}
    volumes = {CAMPAIGN.volume(scan): volume_pending(scan) for scan in resolved()}
    stacks = {OUTPUTS.shifts(name): stitch_pending(name) for name in stacks_made()}
    cor_table()
    tables = dict.fromkeys([INVENTORY, COR_TABLE, *fix_tables()], False)
    inputs = tables | predictions | volumes | stacks
    if not DECIDES:
        return list(inputs)
    reason = WANTED.why(report_wanted())
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
        table=lambda wildcards: table_shown(CAMPAIGN),
    script:
        "../scripts/report.py"
