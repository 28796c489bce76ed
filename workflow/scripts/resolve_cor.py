from types import SimpleNamespace

from tomopipe.reruns.making import making
from tomopipe.steps.resolve_cor import resolve_cor

with making(snakemake) as made:
    resolve_cor(
        made.job["tables"],
        *made.products,
        made.job["scans"],
        SimpleNamespace(**made.job["options"]),
        made.job["others"],
    )
