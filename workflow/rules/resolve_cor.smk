from tomopipe.steps import resolve_cor as resolve_cor_step


localrules:
    resolve_cor,


def scans_to_resolve(wildcards):
    inventory = inventory_rows()
    return as_json(
        {
            scan: {
                "path": CAMPAIGN.scans[scan].path,
                "n_cols": int(inventory[scan]["n_cols"]),
            }
            for scan in CAMPAIGN.scans_in(inventory)
        }
    )


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
        scans=scans_to_resolve,
        options=lambda wildcards: options(CAMPAIGN.config.resolve_cor),
        revision=resolve_cor_step.REVISION,
    script:
        "../scripts/resolve_cor.py"
