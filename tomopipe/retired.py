"""Names that tomopipe no longer has, and what to write instead."""

RETIRED = {
    "a value as text": "write it into config.yaml, without quotes; of all that stands in braces in "
    "--config Snakemake makes texts",
    "an option as a column": "write it into config.yaml, as in overrides: "
    "[{scans: [a_1], full_recon: {filter: hann}}], and remove the column",
    "an import of a folder": "name its files, such as rot_cen.json or FOLDER/*.cor.json",
    "convert --one-range": "write --range LOW HIGH, which all volumes of the command get",
    "init --scans": "write files or patterns after the campaign folder",
    "--allow-run": "start the run with `tomopipe run`; the page shows its progress",
    "predict_cor.methods: sum": "write ai, or classical (without a network)",
    "predict_cor.methods: registration": "write classical, which compares opposing lines, too",
    "preprocess.stripes.method: titarenko": "write gated, or fourier-wavelet",
    "preprocess.stripes.alpha": "take the key out: it was of the method titarenko",
}
"""Keys, `key: value`, ways to write them, options: each the end of a sentence."""
