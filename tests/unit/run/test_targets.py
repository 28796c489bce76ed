"""What a command line asks for: the steps that follow what it forces."""

import sys
from types import SimpleNamespace

import pytest

from tomopipe.campaign.files import Files
from tomopipe.run.targets import followed_steps, last_step


@pytest.mark.parametrize(
    ("call", "steps"),
    [
        ("-R predict_cor", "predict_cor fix_cor resolve_cor report"),
        ("-f results/made/full_recon/a_1.json", "full_recon stitch report"),
        ("-Rexport_stack", "export_stack export_star"),
        ("-R tomopipe_stitch", "stitch report"),  # of a module
        ("-R resolve_cor", "resolve_cor"),  # volumes follow their own CORs
        ("-F", ""),  # each job is forced by itself
        ("results/made/full_recon/a_1.json", ""),
    ],
)
def test_steps_that_follow_a_forced_one(monkeypatch, call, steps):
    monkeypatch.setattr(sys, "argv", ["snakemake", *call.split()])
    assert followed_steps() == {*steps.split()}


@pytest.mark.parametrize(
    ("call", "step"),
    [
        ("predictions", "predict_cor"),
        ("results/made/resolve_cor/campaign.json --cores 2", "resolve_cor"),
        ("predictions results/made/full_recon/a_1.json", ""),
        ("predictions --until try_recon", ""),
        ("-R predict_cor predictions", ""),
        ("--profile predictions", ""),
        ("", ""),
    ],
)
def test_step_at_which_a_call_ends(monkeypatch, call, step):
    monkeypatch.setattr(sys, "argv", ["snakemake", *call.split()])
    assert last_step(SimpleNamespace(outputs=Files("results"))) == step
