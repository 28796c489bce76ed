"""Names that tomopipe no longer has, and what to write instead."""

_MEASURES = "write sum, which adds up all its measures"
_LAB = "write `tomopipe lab {}`"
_CAMPAIGN = "write -C CAMPAIGN"

RETIRED = {
    "full_recon.gpus": "take the key out: each volume is made on one GPU, and the volumes of a "
    "campaign spread over the GPUs there are",
    "predict_cor.methods: pairs": "write registration",
    "predict_cor.methods: wedge": _MEASURES,
    "predict_cor.methods: mass": _MEASURES,
    "predict_cor.methods: slices": _MEASURES,
    "convert preview": "leave it out: volumes have averages of their own, which the page shows",
    "simulate": _LAB.format("simulate"),
    "evaluate": _LAB.format("evaluate"),
    "train": _LAB.format("train"),
    "bench": _LAB.format("bench"),
    "init --scans": "write files or patterns after the campaign folder",
    "-d": _CAMPAIGN,
    "--directory": _CAMPAIGN,
}
"""Keys, `key: value`, commands, options (of one command or all): each the end of a sentence."""
