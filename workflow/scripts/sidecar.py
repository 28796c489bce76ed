import json

from tomopipe.campaign.files import LOGS
from tomopipe.campaign.log import job
from tomopipe.reruns.products import making
from tomopipe.steps.sidecar import sidecar

# no `log:` in the rule: it would have to carry the folder of the data in its name
log = LOGS.log("sidecar", snakemake.wildcards.scan)

with making(log, snakemake.output, snakemake.params), job(log, outputs=snakemake.output):
    sidecar(
        snakemake.output[0],
        content=snakemake.params.content,
        parameters=json.loads(snakemake.params.options),
        in_results=snakemake.params.in_results,
    )
