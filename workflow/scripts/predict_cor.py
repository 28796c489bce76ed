from tomopipe.run.workers import hand_over

hand_over(snakemake)  # if there is a process that has loaded what follows

from tomopipe.config import StepOptions
from tomopipe.cor.roll import UsedRows
from tomopipe.reruns.making import making
from tomopipe.reruns.receipts import content_of
from tomopipe.steps.predict_cor import predict_cor

params = snakemake.params

with making(snakemake) as made:
    options = StepOptions.model_validate_json(params.options)
    predict_cor(
        params.rows,
        params.sweep,
        params.prediction,
        params.center,
        options.predict_cor,
        used=UsedRows(options.preprocess.roll_deg, options.full_recon.rows),
        made_from=made.made_from,
        is_rewritten=lambda path: content_of(path) not in ("", params.last_center_checksum),
    )
