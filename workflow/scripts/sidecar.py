from tomopipe.reruns.making import making
from tomopipe.steps.sidecar import sidecars

with making(snakemake, checks_outputs=False):  # faults of single sidecars are reported at the end
    sidecars(snakemake.params.sidecars)
