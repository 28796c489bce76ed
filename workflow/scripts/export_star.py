from pathlib import Path

from tomopipe.campaign.files import MRC_VOLUME, STACK
from tomopipe.reruns.making import making
from tomopipe.steps.export_star import export_star

params, folder = snakemake.params, Path(snakemake.params.star_set[0]).parent

with making(snakemake) as made:
    named = [scan for scan, digest in params.star_options.get("volumes", {}).items() if digest]
    made.status["warning"] = export_star(
        params.stacks,
        # by name: a temporary stack may have been removed
        {scan: metadata.removesuffix(".json") + STACK for scan, metadata in params.stacks.items()},
        params.cors,
        folder,
        volumes={scan: folder.parent / f"{scan}{MRC_VOLUME}" for scan in named},
        hand=params.star_options["hand"],
        half_acquisition=params.star_options.get("half_acquisition", {}),
        other_rows=params.star_options.get("other_rows", ()),
    )
