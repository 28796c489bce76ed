checkpoint inventory:
    """Open every file once: series, index, shape, and whether the scan is valid."""
    output:
        receipt=receipt("inventory"),
    log:
        LOGS.log("inventory"),
    localrule: True
    params:
        **computed("inventory"),
        inventory=OUTPUTS.inventory,
    script:
        "../scripts/inventory.py"
