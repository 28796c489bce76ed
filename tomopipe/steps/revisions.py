"""Revisions of the steps: increased when the results of a step change in every campaign."""

REVISIONS = {
    "inventory": 6,
    "try_recon": 6,
    "predict_cor": 20,
    "fix_cor": 1,
    "resolve_cor": 1,
    "full_recon": 6,
    "stitch": 1,
    "export_stack": 5,
    "export_star": 2,
    "report": 1,
}
