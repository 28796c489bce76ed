from tomopipe.log import job
from tomopipe.steps.sidecar import sidecar

# no `log:` in the rule: it would have to carry the folder of the data in its name
with job(f"logs/sidecar/{snakemake.wildcards.scan}.log"):
    sidecar(snakemake.output[0], content=snakemake.params.content)
