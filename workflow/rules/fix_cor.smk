from tomopipe.cor.rules import FIX_COLUMNS
from tomopipe.run.words import of_series


def members(series):
    rows = inventory_rows()
    return CAMPAIGN.members(series, rows, DECISIONS.replaced(rows))


def fix_wanted(series):
    scans = alive(CAMPAIGN.selected_series(inventory_rows())[series])
    content = {
        scan: [DECISIONS.content(path) for path in OUTPUTS.of_predict_cor(scan)] for scan in scans
    }
    return made_from.of_fix_cor(CAMPAIGN, members(series), content)


def fix_pending(series):
    """Whether the table of a series must be made."""
    scans = CAMPAIGN.selected_series(inventory_rows())[series]
    return any(map(prediction_pending, scans)) or DECISIONS.reason(
        "fix_cor", series, [OUTPUTS.fix_table(series)], fix_wanted(series)
    )


def fix_inputs(wildcards):
    series = wildcards.series
    scans = CAMPAIGN.selected_series(inventory_rows())[series]
    follows = DECIDES and any(map(prediction_pending, scans))
    wanted = partial(fix_wanted, series)
    return decided(
        "fix_cor",
        series,
        [OUTPUTS.fix_table(series)],
        wanted,
        predictions_of(scans),
        follows=follows,
        words=lambda: fix_words(series),
    )


def fix_words(series):
    rows = read_tsv(OUTPUTS.fix_table(series), FIX_COLUMNS)
    return of_series({row["scan"]: row for row in rows}, members(series))


rule fix_cor:
    """Replace outlying CORs and fill missing ones, one filename series at a time."""
    input:
        fix_inputs,
    output:
        OUTPUTS.fix_table("{series}"),
    log:
        LOGS.log("fix_cor", "{series}"),
    localrule: True
    params:
        members=if_known(lambda wildcards: as_json(members(wildcards.series))),
        options=lambda wildcards: CAMPAIGN.config.as_json("fix_cor"),
        made_from=if_known(lambda wildcards: made_from.as_text(fix_wanted(wildcards.series))),
    script:
        "../scripts/fix_cor.py"
