"""Scans whose files have no angles: skipped until they are given."""

import numpy as np

from tests.phantoms import write_scan
from tests.workflow.conftest import plan_all, snakemake

SIZE = {"n_rows": 4, "n_cols": 96, "cor_px": 44.3, "counts": 50000}


def test_a_scan_without_angles_is_skipped_until_they_are_given(tmp_path):
    for name in ("given_1", "none_1"):
        path = tmp_path / f"raw/{name}.h5"
        write_scan(path, theta_deg=np.linspace(0, 180, 100), write_theta=False, **SIZE)
    config = (
        "campaign: {scans: ['raw/*.h5']}\n"
        "try_recon: {width_px: 6, step_px: 1}\n"
        "predict_cor: {methods: []}\n"
        "resolve_cor: {default_px: 44.3}\n"
        "overrides: [{scans: [given_1], input: {angles: {start: 0, stop: 180}}}]\n"
    )
    (tmp_path / "config.yaml").write_text(config)
    run = snakemake(tmp_path)
    assert "no angles: set input.angles: {start: 0, stop: 180}" in run.text
    assert (tmp_path / "results/given_1_rec.h5").exists(), run.text
    assert not (tmp_path / "results/none_1_rec.h5").exists()
    (tmp_path / "config.yaml").write_text(config.replace("[given_1]", "[given_1, none_1]"))
    jobs = plan_all(tmp_path)[1]
    assert jobs["full_recon:none_1"]
    assert not any("given_1" in job for job in jobs)
