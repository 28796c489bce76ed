def predictions_of_series(wildcards):
    refuse_unknown(wildcards, "fix_cor")
    after_inventory()
    return predictions(SETTLED.scans_of_fix(wildcards.series))


def fix_tables(wildcards):
    after_inventory()
    return needed("fix_cor", SETTLED.needed.series)


rule fix_cor:
    """Replace outlying CORs and fill missing ones, one filename series at a time."""
    input:
        predictions_of_series,
    output:
        made("fix_cor", "{series}"),
    log:
        LOGS.log("fix_cor", "{series}"),
    localrule: True
    params:
        product=OUTPUTS.fix_table("{series}"),
        job=job("fix_cor"),
    script:
        "../scripts/fix_cor.py"
