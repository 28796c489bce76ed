def stacks_of_set(wildcards):
    is_wanted = CAMPAIGN.makes_star
    return needed(made("export_stack", scan) for scan in after_cors().cors) if is_wanted else []


def star_set(wildcards):
    return needed([made("export_star")] if CAMPAIGN.makes_star else [])


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
