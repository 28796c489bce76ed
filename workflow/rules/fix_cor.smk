from tomopipe.reruns.parameters import scans_of_fix


def predictions_of_series(wildcards):
    targets.refuse_unknown(SETTLED, "fix_cor", wildcards)
    return predictions(scans_of_fix(settled_after("inventory"), wildcards.series))


rule fix_cor:
    """Replace outlying CORs and fill missing ones, one filename series at a time."""
    input:
        predictions=predictions_of_series,
    output:
        receipt=receipt("fix_cor", "{series}"),
    log:
        LOGS.log("fix_cor", "{series}"),
    localrule: True
    params:
        **computed("fix_cor"),
        table=OUTPUTS.fix_table("{series}"),
    script:
        "../scripts/fix_cor.py"
