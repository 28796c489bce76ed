def stacks_of_set(wildcards):
    cors = settled_after("resolve_cor").cors if CAMPAIGN.makes_star else []
    return receipts("export_stack", cors)


def star_set(wildcards):
    return receipts("export_star") if CAMPAIGN.makes_star else []


rule export_star:
    """Write the tomogram set that RELION 4 and 5 read: matrices and angles of every stack."""
    input:
        cors=table("resolve_cor"),
        stacks=stacks_of_set,
    output:
        receipt=receipt("export_star"),
    log:
        LOGS.log("export_star"),
    localrule: True
    params:
        cors=OUTPUTS.cor_table,
        stacks=param("stacks"),
        star_options=param("star_options"),
        star_set=OUTPUTS.outputs("export_star"),
        provenance=param("provenance"),
    script:
        "../scripts/export_star.py"
