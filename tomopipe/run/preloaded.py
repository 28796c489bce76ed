"""All imports of the steps of a scan, also those in functions, loaded at once (`warm_start`)."""

import gc
import importlib

for _module in (
    *("h5py", "xxhash", "safetensors.numpy", "snakemake.iocontainers", "snakemake.io"),
    *("scipy.fft", "scipy.ndimage", "scipy.sparse", "scipy.special"),
    *("tomopipe.campaign.campaign", "tomopipe.campaign.log", "tomopipe.cost.job_memory"),
    *("tomopipe.reruns.products", "tomopipe.scans.raw_scan", "tomopipe.cor.methods"),
    *("tomopipe.cor.ai.finder", "tomopipe.cor.evidence_sum", "tomopipe.cor.roll"),
    *(f"tomopipe.steps.{step}" for step in ("try_recon", "predict_cor", "full_recon")),
    *("tomopipe.steps.export_stack", "tomopipe.steps.sidecar"),
):
    importlib.import_module(_module)
gc.freeze()  # the forks share it
