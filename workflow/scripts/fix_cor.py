from types import SimpleNamespace

from tomopipe.reruns.making import making
from tomopipe.steps.fix_cor import fix_cor

with making(snakemake) as made:
    uses_around = fix_cor(
        made.job["predictions"],
        made.products[0],
        made.job["members"],
        SimpleNamespace(**made.job["options"]),
        made.job["around"],
    )
    if stated := made.job["stated_around"]:
        made.stated["around"] = stated if uses_around else ""
