checkpoint inventory:
    """Open every file once: series, index, shape, and whether the scan is valid."""
    output:
        receipt=receipt("inventory"),
    log:
        LOGS.log("inventory"),
    localrule: True
    params:
        entries=param("entries"),
        options=param("options"),
        inventory=OUTPUTS.inventory,
        provenance=param("provenance"),
    script:
        "../scripts/inventory.py"
