import json

from tomopipe.campaign.log import job
from tomopipe.config import StepOptions
from tomopipe.cost.job_memory import bytes_to_use
from tomopipe.reruns.products import making
from tomopipe.scans.raw_scan import raw_scan
from tomopipe.steps.try_recon import TryFiles, try_recon
from tomopipe.stream.memory import Resources

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], snakemake.threads, snakemake.resources, snakemake.output) as status,
):
    options = StepOptions.model_validate_json(snakemake.params.options)
    record = try_recon(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        raw_scan(snakemake.params.raw, options, partial=True),
        TryFiles(snakemake.output.stack, snakemake.output.sweep, snakemake.output.rows),
        options.try_recon,
        resources=Resources(snakemake.threads, bytes_to_use(snakemake.resources.mem_mb)),
        made_from=json.loads(snakemake.params.made_from),
    )
    status["wrote_only"] = "failure" if "failed" in record else ""
