from types import SimpleNamespace

from tomopipe.reruns.making import making
from tomopipe.steps.fix_cor import fix_cor

params = snakemake.params

with making(snakemake) as made:
    uses_around = fix_cor(
        params.predictions,
        params.table,
        params.members,
        SimpleNamespace(**params.fix_options),
        params.around,
    )
    if params.stated_around:
        made.stated["around"] = params.stated_around if uses_around else ""
