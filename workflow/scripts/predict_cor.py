import json

from tomopipe.log import job
from tomopipe.steps.predict_cor import predict_cor

with job(snakemake.log[0]):
    predict_cor(
        snakemake.input.rows,
        snakemake.input.sweep,
        snakemake.output.prediction,
        snakemake.output.center,
        **json.loads(snakemake.params.options),
    )
