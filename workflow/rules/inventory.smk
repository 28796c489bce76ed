def inventory_inputs(wildcards):
    return decided(lambda: WANTED.why_inventory(INVENTORY), [INVENTORY], compared())


checkpoint inventory:
    """Open every file once: series, index, shape, and whether the scan is valid."""
    input:
        inventory_inputs,
    output:
        INVENTORY,
    log:
        LOGS.log("inventory"),
    localrule: True
    params:
        entries=lambda wildcards: as_json(CAMPAIGN.inventory_entries()),
        options=lambda wildcards: CAMPAIGN.config.as_json("inventory", "input", "preprocess"),
        made_from=lambda wildcards: made_from.as_text(WANTED.of_inventory()),
    script:
        "../scripts/inventory.py"
