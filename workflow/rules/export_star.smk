def stacks_of_set(wildcards):
    return needed("export_stack", after_cors().cors) if CAMPAIGN.makes_star else []


def star_set(wildcards):
    return needed("export_star") if CAMPAIGN.makes_star else []


rule export_star:
    """Write the tomogram set that RELION 4 and 5 read: matrices and angles of every stack."""
    input:
        partial(table_receipt, "resolve_cor"),
        stacks_of_set,
    output:
        made("export_star"),
    log:
        LOGS.log("export_star"),
    localrule: True
    params:
        product=OUTPUTS.of_export_star(),
        job=job("export_star"),
    script:
        "../scripts/export_star.py"
