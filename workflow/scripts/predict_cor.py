import json

from tomopipe.campaign.log import job
from tomopipe.config import StepOptions
from tomopipe.cor.roll import UsedRows
from tomopipe.reruns.products import is_rewritten, making
from tomopipe.steps.predict_cor import predict_cor

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], snakemake.threads, snakemake.resources, snakemake.output) as status,
):
    options = StepOptions.model_validate_json(snakemake.params.options)
    prediction = predict_cor(
        *snakemake.input[:2],
        snakemake.output.prediction,
        snakemake.output.center,
        options.predict_cor,
        used=UsedRows(options.preprocess.roll_deg, options.full_recon.rows),
        made_from=json.loads(snakemake.params.made_from),
        is_rewritten=is_rewritten,
    )
    status["wrote_only"] = "failure" if prediction["verdict"] == "failed" else ""
