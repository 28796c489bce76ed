import json
from pathlib import Path

from tomopipe.campaign.files import BINNING
from tomopipe.campaign.log import job
from tomopipe.campaign.relion_set import decide_binning
from tomopipe.config import StepOptions
from tomopipe.reruns.products import making
from tomopipe.reruns.stated import result_to_reuse
from tomopipe.scans.raw_scan import raw_scan
from tomopipe.steps.export_stack import export_or_fail

with (
    making(snakemake.log[0], snakemake.output, snakemake.params) as more,
    job(snakemake.log[0], snakemake.threads, snakemake.resources, snakemake.output) as status,
):
    options = StepOptions.model_validate_json(snakemake.params.options)
    angles = json.loads(snakemake.params.angles)
    earlier = result_to_reuse(snakemake.output.stack, snakemake.params)
    meta = export_or_fail(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        raw_scan(snakemake.params.raw, options, angles=angles, partial=True),
        snakemake.output.stack,
        snakemake.output.meta,
        options.export_star,
        least_binning=decide_binning(
            Path(snakemake.output.meta).parent.parent / BINNING,
            options.export_star.binning,
            json.loads(snakemake.params.binning),
        ),
        made_from=json.loads(snakemake.params.made_from),
        pixels_of=earlier,
        is_last=snakemake.resources.get("attempts_left", 0) < 1,
    )
    stated = meta.get("made_from", {})
    more |= {key: stated[key] for key in ("not_read",) if key in stated}
    status["wrote_only"] = "failure" if "failed" in meta else "metadata" if earlier else ""
