checkpoint resolve_cor:
    """Determine the COR of every selected scan; without one, block or skip the scan."""
    input:
        fix_tables,
    output:
        made("resolve_cor"),
    log:
        LOGS.log("resolve_cor"),
    retries: 0  # what blocks it is in its inputs: another attempt would only say it again
    localrule: True
    params:
        product=[OUTPUTS.cor_table, OUTPUTS.rot_cen],
        job=job("resolve_cor"),
    script:
        "../scripts/resolve_cor.py"
