from types import SimpleNamespace

from tomopipe.reruns.making import making
from tomopipe.steps.fix_cor import fix_cor

with making(snakemake) as made:
    fix_cor(
        made.job["predictions"],
        made.products[0],
        made.job["members"],
        SimpleNamespace(**made.job["options"]),
    )
