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
        predictions=param("predictions"),
        members=param("members"),
        around=param("around"),
        stated_around=param("stated_around"),
        fix_options=param("fix_options"),
        table=OUTPUTS.fix_table("{series}"),
        provenance=param("provenance"),
    script:
        "../scripts/fix_cor.py"
