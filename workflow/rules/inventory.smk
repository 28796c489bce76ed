from tomopipe.campaign.state import LOOK_AGAIN, STILL_WRITTEN
from tomopipe.run.words import of_scans


def look_again():
    """A value that changes while a file is being written or unavailable, or if a linked one
    changed."""
    try:
        rows = read_inventory(INVENTORY)
    except (OSError, TomopipeError):
        return ""
    reasons = [row["reason"] for row in rows.values()]
    growing = any(reason.startswith(STILL_WRITTEN) for reason in reasons)
    unread = any(reason.endswith(LOOK_AGAIN) for reason in reasons)
    return f"{START_TIME}" if growing or unread or CAMPAIGN.has_other_links(rows) else ""


def inventory_wanted():
    """The inventory stores the state of linked files, and decides by it when to run again."""
    scans = [scan.path for scan in (*CAMPAIGN.scans.values(), *CAMPAIGN.refused)]
    shared = [path for scan in CAMPAIGN.scans for path in CAMPAIGN.for_scan(scan).shared_files()]
    content = {path: DECISIONS.record.raw(path) for path in {*scans, *shared}}
    return made_from.of_inventory(CAMPAIGN, content, look_again())


def inventory_inputs(wildcards):
    return decided(
        *("inventory", "campaign", [INVENTORY], inventory_wanted, compared()),
        words=inventory_words,
    )


def inventory_words():
    times = {name: scan.mtime_ns for name, scan in CAMPAIGN.scans.items()}
    return of_scans(read_inventory(INVENTORY), times, os.stat(INVENTORY).st_mtime_ns)


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
        made_from=lambda wildcards: made_from.as_text(inventory_wanted() | {"look_again": ""}),
    script:
        "../scripts/inventory.py"
