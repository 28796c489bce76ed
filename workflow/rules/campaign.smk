# Everything but `rule all`: Snakemake forgets the default target of a file that is included
from snakemake.utils import min_version

min_version("9.20")


include: "common.smk"
include: "inventory.smk"
include: "shared_rows.smk"
include: "try_recon.smk"
include: "predict_cor.smk"
include: "fix_cor.smk"
include: "resolve_cor.smk"
include: "full_recon.smk"
include: "stitch.smk"
include: "sidecar.smk"
include: "export_stack.smk"
include: "export_star.smk"
include: "report.smk"
include: "end.smk"


EVERYTHING = [
    whole_run,
    [receipt("inventory"), receipt("resolve_cor")],
    predictions_of_all,
    volumes,
    stitched_volumes,
    sidecars,
    stacks_of_set,
    star_set,
    page,
]


rule predictions:
    """Stop after predict_cor: predicted CORs, without fixing and volumes."""
    input:
        receipt("inventory"),
        predictions_of_all,
    localrule: True
