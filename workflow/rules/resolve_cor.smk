def fix_tables(wildcards):
    return receipts("fix_cor", settled_after("inventory").needed.series)


checkpoint resolve_cor:
    """Determine the COR of every selected scan; without one, block or skip the scan."""
    input:
        tables=fix_tables,
    output:
        receipt=receipt("resolve_cor"),
    log:
        LOGS.log("resolve_cor"),
    retries: 0  # what blocks it is in its inputs: another attempt would only say it again
    localrule: True
    params:
        tables=param("tables"),
        scans=param("scans"),
        others=param("others"),
        resolve_options=param("resolve_options"),
        cors=OUTPUTS.cor_table,
        rot_cen=OUTPUTS.rot_cen,
        provenance=param("provenance"),
    script:
        "../scripts/resolve_cor.py"
