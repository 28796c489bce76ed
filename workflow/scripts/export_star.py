from pathlib import Path

from tomopipe.campaign.files import MRC_VOLUME, STACK
from tomopipe.reruns.making import making
from tomopipe.steps.export_star import export_star

with making(snakemake) as made:
    metas = made.job["metas"]
    folder = Path(made.products[0]).parent
    options = made.job["options"]
    named = [scan for scan, digest in options.get("volumes", {}).items() if digest]
    made.status["warning"] = export_star(
        metas,
        # by name: a temporary stack may have been removed
        {scan: Path(meta).with_suffix(STACK) for scan, meta in metas.items()},
        made.job["cor"],
        folder,
        volumes={scan: folder.parent / f"{scan}{MRC_VOLUME}" for scan in named},
        hand=options["hand"],
        half_acquisition=options.get("half_acquisition", {}),
        other_rows=options.get("other_rows", ()),
    )
