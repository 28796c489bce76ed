STAR_FILES = OUTPUTS.of_export_star()


def star_set(wildcards):
    """The set and its stacks: Snakemake does not detect missing files of intermediate rules."""
    if not CAMPAIGN.config.export_star.enabled:
        return []
    # a temporary stack may be missing: it is not requested, and not remade
    n_kept = 2 if CAMPAIGN.config.storage.keep_stacks else 1
    kept = [path for scan in resolved() for path in OUTPUTS.of_export_stack(scan)[:n_kept]]
    return [STAR_FILES[0], *kept]


def star_inputs(wildcards):
    """cor.json and the JSON of each stack; a remade stack may be equal."""
    table = cor_table()
    metas = [OUTPUTS.stack_meta(scan) for scan in resolved()]
    if not DECIDES:
        return {"cor": table, "metas": metas}
    reason = WANTED.why_export_star(resolved())
    run_for(reason, STAR_FILES, even_missing=True)  # in a folder
    fresh = [
        meta if reason or stack_pending(scan) else ancient(meta)
        for scan, meta in zip(resolved(), metas, strict=True)
    ]
    return {"cor": table if reason else ancient(table), "metas": fresh}


rule export_star:
    """Write the tomogram set that RELION 4 and 5 read: matrices and angles of every stack."""
    input:
        unpack(star_inputs),
    output:
        star=STAR_FILES[0],
        names=STAR_FILES[1],
        tilt_series=directory(STAR_FILES[2]),
        star5=STAR_FILES[3],
    log:
        LOGS.log("export_star"),
    localrule: True
    params:
        options=if_known(lambda wildcards: as_json(WANTED.star_options(resolved()))),
        made_from=if_known(lambda wildcards: made_from.as_text(WANTED.of_export_star(resolved()))),
    script:
        "../scripts/export_star.py"
