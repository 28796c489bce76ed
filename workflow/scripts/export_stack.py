import json
from pathlib import Path

from tomopipe.campaign.files import BINNING
from tomopipe.campaign.log import job
from tomopipe.run.products import making
from tomopipe.run.stated import content_of
from tomopipe.steps.export_stack import export_stack, settle_binning

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0]),
):
    options = json.loads(snakemake.params.options)
    export_stack(
        snakemake.params.raw,
        snakemake.output.stack,
        snakemake.output.meta,
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        partial=True,
        made_from=json.loads(snakemake.params.made_from),
        pixels_of=content_of(snakemake.output.stack, snakemake.params),
        least_binning=settle_binning(
            Path(snakemake.output.meta).parent.parent / BINNING,
            options["binning"],
            json.loads(snakemake.params.binning),
        ),
        **options,
    )
