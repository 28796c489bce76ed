include: "workflow/rules/campaign.smk"


rule all:
    """Everything: predictions, volumes and sidecars of all selected scans, export, report."""
    default_target: True
    input:
        EVERYTHING,
    localrule: True
