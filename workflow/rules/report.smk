from tomopipe.steps import report as report_step


localrules:
    report,


def report_inputs(wildcards):
    """Only what the report shows: results of scans that are in, and the tables."""
    scans = CAMPAIGN.scans_in(inventory_rows())
    predictions = [try_center(s, "prediction.json") for s in scans if s not in CAMPAIGN.failures]
    if AFTER_COR:
        predictions = [path for path in predictions if os.path.exists(path)]
    cor_table()
    tables = settled([INVENTORY, COR_TABLE, *fix_tables()], REPORT)
    shifts = [SHIFTS.format(stack=name) for name in stacks_made()]
    return [*tables, *predictions, *volumes(wildcards), *shifts]


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
        "logs/report/campaign.log",
    params:
        config=lambda wildcards: options(CAMPAIGN.config.report),
        revision=report_step.REVISION,
    script:
        "../scripts/report.py"
