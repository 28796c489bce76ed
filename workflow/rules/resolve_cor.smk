from tomopipe.steps import resolve_cor as resolve_cor_step


localrules:
    resolve_cor,


checkpoint resolve_cor:
    """Decide the COR of every scan that is in; without one, block or leave the scan out."""
    input:
        fix_tables,
    output:
        cor=COR_TABLE,
        rot_cen=ROT_CEN,
    log:
        "logs/resolve_cor/campaign.log",
    params:
        scans=lambda wildcards: as_json(CAMPAIGN.to_resolve(inventory_rows())),
        options=lambda wildcards: options(CAMPAIGN.config.resolve_cor),
        revision=resolve_cor_step.REVISION,
    script:
        "../scripts/resolve_cor.py"
