from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/inventory.smk"
include: "workflow/rules/try_recon.smk"
include: "workflow/rules/predict_cor.smk"
include: "workflow/rules/fix_cor.smk"
include: "workflow/rules/resolve_cor.smk"
include: "workflow/rules/sidecar.smk"
include: "workflow/rules/full_recon.smk"
include: "workflow/rules/stitch.smk"
include: "workflow/rules/export_stack.smk"
include: "workflow/rules/export_star.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/end.smk"


rule all:
    """Everything: predictions, volumes and sidecars of all selected scans, export, report."""
    default_target: True
    input:
        [INVENTORY, COR_TABLE, OUTPUTS.rot_cen],
        predictions_of_all,
        volumes,
        stitched,
        sidecars,
        star_set,
        [REPORT] if CAMPAIGN.config.report.enabled else [],
    localrule: True


rule predictions:
    """Stop after predict_cor: predicted CORs, without fixing and volumes."""
    input:
        INVENTORY,
        predictions_of_all,
    localrule: True
