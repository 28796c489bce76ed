from types import SimpleNamespace

from tomopipe.reruns.making import making
from tomopipe.steps.resolve_cor import resolve_cor

params = snakemake.params

with making(snakemake):
    resolve_cor(
        params.tables,
        params.cors,
        params.rot_cen,
        params.scans,
        SimpleNamespace(**params.resolve_options),
        params.others,
    )
