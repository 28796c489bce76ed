import json
from pathlib import Path

from tomopipe.campaign.files import MRC_VOLUME, STACK
from tomopipe.campaign.log import job
from tomopipe.reruns.products import making
from tomopipe.steps.export_star import export_star

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], outputs=snakemake.output),
):
    metas = {Path(meta).stem: meta for meta in snakemake.input.metas}
    folder = Path(snakemake.output.star).parent
    options = json.loads(snakemake.params.options)
    named = [scan for scan, digest in options.get("volumes", {}).items() if digest]
    export_star(
        metas,
        # by name: a temporary stack may have been removed
        {scan: Path(meta).with_suffix(STACK) for scan, meta in metas.items()},
        snakemake.input.cor,
        folder,
        volumes={scan: folder.parent / f"{scan}{MRC_VOLUME}" for scan in named},
        hand=options["hand"],
        half_acquisition=options.get("half_acquisition", {}),
        other_rows=options.get("other_rows", ()),
    )
