from tomopipe.campaign import STILL_WRITTEN
from tomopipe.dryrun import recorded_param
from tomopipe.steps import inventory as inventory_step


localrules:
    inventory,


def look_again(wildcards):
    """Differ while a file is still written, or a linked one changed; stay as it was afterwards."""
    try:
        rows = read_inventory(INVENTORY)
    except (OSError, TomopipeError):
        return ""
    growing = any(row["reason"].startswith(STILL_WRITTEN) for row in rows.values())
    if growing or CAMPAIGN.has_other_links(rows):
        return f"look again {START_TIME}"
    return recorded_param(INVENTORY, r"look again [0-9.]+")


checkpoint inventory:
    """Open every file once: series, index, shape, and whether the scan is sound."""
    output:
        INVENTORY,
    log:
        "logs/inventory/campaign.log",
    params:
        entries=lambda wildcards: as_json(CAMPAIGN.inventory_entries()),
        files=lambda wildcards: CAMPAIGN.files_signature(),
        options=lambda wildcards: as_json(CAMPAIGN.inventory_options()),
        look_again=look_again,
        revision=inventory_step.REVISION,
    script:
        "../scripts/inventory.py"
