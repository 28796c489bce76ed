from tomopipe.relion_set import star_options
from tomopipe.steps import export_star as export_star_step

STAR = CAMPAIGN.result("relion", "tomograms.star")


localrules:
    export_star,


def star_set(wildcards):
    """The set and its stacks: a missing file that only an intermediate rule names goes unseen."""
    if not CAMPAIGN.config.export_star.enabled:
        return []
    # a temporary stack may be gone: it is asked for by nobody, and not made again
    kept = (STACK, STACK_META) if CAMPAIGN.config.storage.keep_stacks else (STACK_META,)
    return [STAR, *(path.format(scan=scan) for scan in resolved() for path in kept)]


def star_cor(wildcards):
    cor_table()
    return settled([COR_TABLE], STAR)


rule export_star:
    """Write the tomogram set that RELION 4 and 5 read: matrices and angles of every stack."""
    input:
        cor=star_cor,
        metas=lambda wildcards: [STACK_META.format(scan=scan) for scan in resolved()],
    output:
        star=STAR,
        names=CAMPAIGN.result("relion", "names.tsv"),
        tilt_series=directory(CAMPAIGN.result("relion", "tilt_series")),
    log:
        "logs/export_star/campaign.log",
    params:
        options=lambda wildcards: as_json(star_options(CAMPAIGN, resolved())),
        revision=export_star_step.REVISION,
    script:
        "../scripts/export_star.py"
