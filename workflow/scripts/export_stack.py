import json
from pathlib import Path

from tomopipe.campaign.files import BINNING
from tomopipe.campaign.relion_set import decide_binning
from tomopipe.config import StepOptions
from tomopipe.reruns.making import making
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.export_stack import export_or_fail

with making(snakemake) as made:
    options = StepOptions.model_validate_json(made.job["options"])
    meta_path, stack = made.products
    meta = export_or_fail(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        RawScan(made.job["raw"], options.input, options.preprocess, partial=True),
        stack,
        meta_path,
        options.export_star,
        least_binning=decide_binning(
            Path(meta_path).parent.parent / BINNING,
            options.export_star.binning,
            made.job["binning"],
        ),
        made_from=json.loads(made.job["made_from"]),
        pixels_of=stack if made.job["metadata_alone"] else None,
        is_last=snakemake.resources.get("attempts_left", 0) < 1,
    )
    stated = meta.get("made_from", {})
    made.stated |= {key: stated[key] for key in ("not_read",) if key in stated}
