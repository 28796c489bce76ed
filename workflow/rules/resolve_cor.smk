from tomopipe.steps import resolve_cor as resolve_cor_step


def resolve_reason():
    """Say why cor.json does not follow from the fix tables; it is compared as a whole."""
    return WANTED.why(WANTED.of_resolve_cor()) or resolve_cor_step.differs(
        fix_tables(),
        COR_TABLE,
        CAMPAIGN.to_resolve(inventory_rows()),
        CAMPAIGN.config.resolve_cor,
    )


def resolve_inputs(wildcards):
    tables = fix_tables()
    if not DECIDES:
        return tables
    follows = any(map(fix_pending, scans_by_series()))
    reason = "follows fix_cor" if follows else resolve_reason()
    run_for(reason, [COR_TABLE], even_missing=True)
    return tables if reason else [ancient(path) for path in tables]


checkpoint resolve_cor:
    """Determine the COR of every selected scan; without one, block or skip the scan."""
    input:
        resolve_inputs,
    output:
        cor=COR_TABLE,
        rot_cen=OUTPUTS.rot_cen,
    log:
        LOGS.log("resolve_cor"),
    localrule: True
    params:
        scans=if_known(lambda wildcards: as_json(CAMPAIGN.to_resolve(inventory_rows()))),
        options=lambda wildcards: CAMPAIGN.config.as_json("resolve_cor"),
        made_from=lambda wildcards: made_from.as_text(WANTED.of_resolve_cor()),
    script:
        "../scripts/resolve_cor.py"
