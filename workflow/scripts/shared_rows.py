from tomopipe.campaign.log import log_to
from tomopipe.config import StepOptions
from tomopipe.scans.exchange import RawScan
from tomopipe.steps.shared_rows import shared_rows

params = snakemake.params

with log_to(snakemake.log[0]):
    options = StepOptions.model_validate_json(params.options)
    shared_rows(
        RawScan(params.raw, options.input, options.preprocess, partial=True),
        params.shared["windows"],
        snakemake.output[0],
        options.try_recon if snakemake.rule == "shared_rows" else None,
        threads=snakemake.threads,
    )
