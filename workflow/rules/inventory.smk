checkpoint inventory:
    """Open every file once: series, index, shape, and whether the scan is valid."""
    output:
        made("inventory"),
    log:
        LOGS.log("inventory"),
    localrule: True
    params:
        product=OUTPUTS.inventory,
        job=job("inventory"),
    script:
        "../scripts/inventory.py"
