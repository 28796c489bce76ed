import json
from pathlib import Path

from tomopipe.log import job
from tomopipe.products import making
from tomopipe.steps.export_star import export_star

with (
    job(snakemake.log[0]),
    making(snakemake.log[0], snakemake.output, snakemake.params),
):
    export_star(
        {Path(meta).stem: meta for meta in snakemake.input.metas},
        # by name: a temporary stack may have been removed
        {Path(meta).stem: Path(meta).with_suffix(".mrcs") for meta in snakemake.input.metas},
        snakemake.input.cor,
        Path(snakemake.output.star).parent,
        **json.loads(snakemake.params.options),
    )
