from tomopipe.steps import fix_cor as fix_cor_step


localrules:
    fix_cor,


rule fix_cor:
    """Replace outlying CORs and fill missing ones, one filename series at a time."""
    input:
        lambda wildcards: predictions_of(CAMPAIGN.series_in(inventory_rows())[wildcards.series]),
    output:
        CAMPAIGN.result("fix_cor", "{series}.tsv"),
    log:
        "logs/fix_cor/{series}.log",
    params:
        members=lambda wildcards: as_json(CAMPAIGN.members(wildcards.series, inventory_rows())),
        options=lambda wildcards: options(CAMPAIGN.config.fix_cor),
        revision=fix_cor_step.REVISION,
    script:
        "../scripts/fix_cor.py"
