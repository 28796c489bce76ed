import json

from tomopipe.campaign.log import job
from tomopipe.campaign.results import read_cor_json
from tomopipe.config import StepOptions
from tomopipe.cost.job_memory import bytes_to_use
from tomopipe.reruns.products import making
from tomopipe.reruns.stated import result_to_reuse
from tomopipe.scans.raw_scan import raw_scan
from tomopipe.steps.full_recon import full_recon
from tomopipe.stream.memory import Resources

with (
    making(snakemake.log[0], snakemake.output, snakemake.params),
    job(snakemake.log[0], snakemake.threads, snakemake.resources, snakemake.output) as status,
):
    scan, params = snakemake.wildcards.scan, snakemake.params
    options = StepOptions.model_validate_json(params.options)
    source = read_cor_json(snakemake.input[0]).get(scan, {}).get("source")
    earlier = result_to_reuse(snakemake.output[0], params)
    status["wrote_only"] = "metadata" if earlier else ""
    status["warning"] = full_recon(
        # a scan taken in by hand may have fewer frames than it claims; others lose nothing
        raw_scan(params.raw, options, name=scan, angles=json.loads(params.angles), partial=True),
        snakemake.output[0],
        {"cor_px": params.cor_px, "source": source},
        options.full_recon,
        pixel_size_um=options.volume_pixel_size_um,
        resources=Resources(
            snakemake.threads,
            bytes_to_use(snakemake.resources.mem_mb),
            # not a param: where temporary files lie changes no volume
            (snakemake.config.get("storage") or {}).get("scratch"),
        ),
        provenance={"made_from": params.made_from},
        voxels_of=earlier,
    )
