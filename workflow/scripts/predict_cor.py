import json

from tomopipe.config import StepOptions
from tomopipe.cor.roll import UsedRows
from tomopipe.reruns.making import making
from tomopipe.reruns.receipts import content_of
from tomopipe.steps.predict_cor import predict_cor

with making(snakemake) as made:
    options = StepOptions.model_validate_json(made.job["options"])
    predict_cor(
        *made.job["rows"],
        *made.products,
        options.predict_cor,
        used=UsedRows(options.preprocess.roll_deg, options.full_recon.rows),
        made_from=json.loads(made.job["made_from"]),
        is_rewritten=lambda path: content_of(path) not in ("", made.job["center_sum"]),
    )
