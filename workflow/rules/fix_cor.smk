def members(series):
    inventory_rows()
    return WANTED.members(series)


def fix_wanted(series):
    inventory_rows()
    return WANTED.of_fix_cor(series)


def fix_pending(series):
    """Whether the table of a series must be made."""
    scans = WANTED.to_search(scans_by_series()[series])
    return any(map(prediction_pending, scans)) or WANTED.why_fix_cor(series)


def fix_inputs(wildcards):
    series = wildcards.series
    scans = WANTED.to_search(scans_by_series()[series])
    follows = DECIDES and any(map(prediction_pending, scans))
    why = partial(WANTED.why_fix_cor, series)
    return decided(why, [OUTPUTS.fix_table(series)], predictions_of(scans), follows=follows)


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
