from tomopipe.run.workers import hand_over

hand_over(snakemake)  # if there is a process that has loaded what follows

from pathlib import Path

from tomopipe.campaign.files import BINNING
from tomopipe.config import StepOptions
from tomopipe.relion.relion_set import decide_binning
from tomopipe.reruns.making import making
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.export_stack import export_or_fail

params = snakemake.params

with making(snakemake) as made:
    options = StepOptions.model_validate_json(params.options)
    binning = Path(params.metadata).parent.parent / BINNING
    metadata = export_or_fail(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        RawScan(params.raw, options.input, options.preprocess, partial=True),
        params.stack,
        params.metadata,
        options.export_star,
        least_binning=decide_binning(binning, options.export_star.binning, params.binning),
        made_from=made.made_from,
        pixels_of=params.stack if params.metadata_alone else None,
        is_last=snakemake.resources.get("attempts_left", 0) < 1,
    )
    stated = metadata.get("made_from", {})
    made.stated |= {key: stated[key] for key in ("not_read",) if key in stated}
