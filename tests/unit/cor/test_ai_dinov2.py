"""The finder `dinov2`, its classifier against a second implementation, and its checkpoints."""

import argparse
import hashlib
import os
import pickle
import sys
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from dinov2_weights import random_state, reference_features, save
from find_rows import THETA_180_DEG, curves_of, grid, rows_of, scan

from tests.step_calls import predict_in
from tomopipe.config import parse_config
from tomopipe.cor.ai import dinov2
from tomopipe.cor.ai.dinov2 import (
    N_SHORTLIST,
    Checkpoint,
    Classifier,
    cut_windows,
    decide,
    find_dinov2,
    read_checkpoint,
    window_corners,
)
from tomopipe.cor.collected_rows import write_rows
from tomopipe.cor.methods import ask
from tomopipe.errors import TomopipeError
from tomopipe.storage.atomic import write_json


def windows_of(size_px, n=1):
    grey = np.random.default_rng(0).integers(0, 256, (n, size_px, size_px)).astype(np.float32)
    return grey / np.float32(255)


@pytest.fixture(scope="module")
def short():
    """The width of ViT-B, two blocks."""
    return Checkpoint("a.pt", random_state(768), 518, 3)


@pytest.mark.parametrize("window_px", [518, 224])
@torch.inference_mode()
def test_two_blocks_agree_to_1e_4(short, window_px):
    windows = windows_of(window_px)
    images = torch.from_numpy(windows)[:, None].expand(-1, 3, -1, -1)
    features = Classifier(short, window_px).backbone(pixel_values=images).last_hidden_state[:, 0]
    expected = reference_features(short.state, windows)
    assert expected.std() > 0.3
    assert features.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


@torch.inference_mode()
def test_windows_are_pooled_by_gated_attention(short):
    windows = windows_of(56, 3)
    state = short.state
    features = reference_features(state, windows).double().numpy()
    layer = {
        name: features @ state[f"{name}.0.weight"].double().numpy().T
        + state[f"{name}.0.bias"].double().numpy()
        for name in ("attention", "gate")
    }
    gated = np.tanh(layer["attention"]) / (1 + np.exp(-layer["gate"]))
    raw = gated @ state["fc.weight"][0].double().numpy()
    share = np.exp(raw) / np.exp(raw).sum()
    logits = state["head.weight"].double().numpy() @ (share @ features)
    logits += state["head.bias"].double().numpy()
    network = Classifier(short, 56)
    assert network(torch.from_numpy(windows)).numpy() == pytest.approx(logits, abs=1e-4)
    right = 1 / (1 + np.exp(logits[0] - logits[1]))
    assert network.score(windows) == pytest.approx(right, abs=1e-4)


def test_a_single_window_goes_to_the_head_alone():
    state = random_state(768, pooled=False)
    network = Classifier(Checkpoint("a.pt", state, 518, 1), 56)
    windows = windows_of(56)
    with torch.inference_mode():
        features = reference_features(state, windows)[0]
        logits = state["head.weight"] @ features + state["head.bias"]
        assert network(torch.from_numpy(windows)).numpy() == pytest.approx(logits.numpy(), abs=1e-4)


@pytest.fixture
def state():
    return random_state(64, grid=4)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_complete_checkpoint_is_read(tmp_path, state, prefix):
    checkpoint = read_checkpoint(save(tmp_path / "a.pt", state, prefix=prefix, num_windows=24))
    assert set(checkpoint.state) == set(state)
    assert all(torch.equal(checkpoint.state[key], value) for key, value in state.items())
    assert (checkpoint.window_px, checkpoint.n_windows) == (518, 3)
    path = save(tmp_path / "a.pt", state, num_windows=1, window_size=224)
    single = read_checkpoint(path)
    assert (single.window_px, single.n_windows) == (224, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("model.blocks.1.ls1.gamma"), r"Missing .*1\.layer_scale1\.lambda1"),
        (lambda s: s.pop("gate.0.bias"), r"Missing .*gate\.0\.bias"),
        (lambda s: s.update({"other": torch.ones(1)}), r"Unexpected .*other"),
        (lambda s: s.update({"head.weight": torch.ones(3, 64)}), r"head\.weight: .*\[3, 64\]"),
        (lambda s: s.update({"model.pos_embed": torch.ones(1, 18, 64)}), "must match"),
        (lambda s: s.update({"head.bias": "text"}), "'str' object"),
        (lambda s: s.update({"aggregator.x": torch.ones(1)}), "got a range classifier"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, state, change, said):
    change(state)
    with pytest.raises(TomopipeError, match=said) as error:
        Classifier(read_checkpoint(save(tmp_path / "a.pt", state)), 224)
    assert "a.pt" in str(error.value)


@pytest.mark.parametrize("window_size", [500, "518"])
def test_a_window_that_is_no_multiple_of_a_patch_is_an_error(tmp_path, state, window_size):
    with pytest.raises(TomopipeError, match="window_size: expected a multiple of 14"):
        read_checkpoint(save(tmp_path / "a.pt", state, window_size=window_size))


class Evil:
    """Runs something when it is unpickled."""

    def __init__(self, run, *args):
        self.run, self.args = run, args

    def __reduce__(self):
        return self.run, self.args


def test_options_of_the_training_stay_unread_and_nothing_is_executed(tmp_path, state, monkeypatch):
    """The program saves the paths and the function of its command line with the weights.

    What torch refuses is refused.
    """
    monkeypatch.chdir(tmp_path)
    evil = Evil(exec, "open('executed', 'w')")
    pickle.loads(pickle.dumps(evil))
    Path("executed").unlink()
    args = {"out": PosixPath("/a"), "func": argparse.ArgumentParser, "evil": evil}
    assert read_checkpoint(save("a.pt", state, num_windows=24, **args)).n_windows == 3
    with pytest.raises(TomopipeError, match=r"a\.pt: expected a checkpoint"):
        read_checkpoint(save("a.pt", state, evil=Evil(os.mkdir, "executed")))
    assert not Path("executed").exists()


@pytest.mark.parametrize("content", [b"", b"foreign", pickle.dumps({"state_dict": {}})])
def test_a_foreign_file_is_named(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(TomopipeError, match=r"a\.pt: expected a checkpoint written by torch\.save"):
        read_checkpoint(tmp_path / "a.pt")


pytestmark = pytest.mark.slow

N_COLS, COR_PX = 240, 127.3
CHECKPOINT = Checkpoint("a.pt", {}, 518, 3)


class Sharp:
    """Replaces a trained network: few edges in the windows."""

    def __init__(self, checkpoint, window_px):
        self.window_px = window_px

    def to(self, device):
        return self

    def score(self, windows):
        assert windows.shape == (3, self.window_px, self.window_px)
        assert (windows >= 0).all()
        assert (windows <= 1).all()
        flat = np.sort(np.abs(np.diff(windows[0], axis=1)).ravel())[-1000:]
        return float(flat.mean())


@pytest.fixture
def sharp(monkeypatch):
    monkeypatch.setattr(dinov2, "Classifier", Sharp)


@pytest.fixture(scope="module")
def rows():
    return rows_of(scan(COR_PX, n_cols=N_COLS, n_rows=2), THETA_180_DEG)


def test_without_a_gpu_only_the_best_of_the_evidence_are_scored_and_it_says_so(sharp, rows):
    candidates_px = grid(N_COLS)
    evidence = find_dinov2(curves_of(rows), candidates_px, CHECKPOINT)
    assert evidence.best_cor_px == pytest.approx(COR_PX, abs=0.75)
    n_scored = len(evidence.curve_cor_px)
    assert n_scored == N_SHORTLIST
    assert set(evidence.curve_cor_px) <= set(candidates_px)
    assert f"only {n_scored} of {len(candidates_px)} candidates scored" in evidence.reason
    assert np.abs(evidence.curve_cor_px - COR_PX).min() < 0.3


@pytest.mark.parametrize("gpu", [False, True])
def test_all_candidates_are_scored_where_they_are_few_or_there_is_a_gpu(
    sharp, rows, monkeypatch, gpu
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    candidates_px = COR_PX + np.arange(-10.0, 10.5, 0.5 if gpu else 2.0)
    evidence = find_dinov2(curves_of(rows), candidates_px, CHECKPOINT)
    assert evidence.curve_cor_px.tolist() == candidates_px.tolist()
    assert evidence.best_cor_px == pytest.approx(COR_PX, abs=0.75)
    assert "candidates scored" not in evidence.reason


def test_nothing_is_scored_without_a_sample_or_in_slices_that_are_too_small(sharp, rows):
    noise = np.random.default_rng(0).normal(size=(181, 2, N_COLS)).astype(np.float32)
    for found, said in [
        (find_dinov2(curves_of(rows_of(noise, THETA_180_DEG)), grid(N_COLS), CHECKPOINT), "noise"),
        (
            find_dinov2(
                curves_of(rows_of(scan(100, n_cols=200, n_rows=2), THETA_180_DEG)),
                grid(200), CHECKPOINT,
            ),
            "slices of 200 px are too small: 225 px are needed",
        ),
    ]:  # fmt: skip
        assert (found.verdict, found.best_cor_px) == ("flat", None)
        assert said in found.reason


def _decide(high):
    score = np.full(41, 0.01)
    score[list(high)] = list(high.values())
    return decide(np.arange(41), score, 100 + 0.5 * np.arange(41))


@pytest.mark.parametrize(
    ("high", "best_cor_px", "confidence"),
    [
        ({19: 0.6, 20: 0.95, 21: 0.7}, 110.0, 0.95 * 0.99),
        (dict.fromkeys(range(20, 24), 1.0), 110.75, 0.99),
    ],
    ids=["one", "equal neighbours: their middle"],
)
def test_high_scores_are_resolved(high, best_cor_px, confidence):
    found = _decide(high)
    assert (found.verdict, found.reason) == ("resolved", "")
    assert found.best_cor_px == pytest.approx(best_cor_px)
    assert found.confidence == pytest.approx(confidence)


@pytest.mark.parametrize(
    ("high", "verdict"),
    [
        ({20: 0.9, 35: 0.85}, "ambiguous"),
        ({20: 0.2}, "ambiguous"),
        ({0: 0.9}, "edge"),
        ({40: 0.9}, "edge"),
    ],
    ids=["a second peak", "nothing is right", "first", "last"],
)
def test_what_is_not_accepted(high, verdict):
    found = _decide(high)
    assert found.verdict == verdict
    assert found.confidence < 0.25
    assert found.reason
    assert found.best_cor_px == 100 + 0.5 * min(high, key=lambda i: -high[i])


def test_a_real_network_gives_probabilities_and_a_wrong_checkpoint_is_an_error(tmp_path, rows):
    path = save(tmp_path / "a.pt", random_state(64, grid=16), window_size=224)
    candidates_px = np.array([120.0, 127.5, 133.0])
    first, again = (ask("dinov2", curves_of(rows), candidates_px, path) for _ in range(2))
    assert first.curve_score.tolist() == again.curve_score.tolist()
    assert ((first.curve_score > 0) & (first.curve_score < 1)).all()
    assert len(set(first.curve_score)) == 3
    with pytest.raises(TomopipeError, match=r"b\.pt: no such file"):
        ask("dinov2", curves_of(rows), candidates_px, tmp_path / "b.pt")


def _predict(tmp_path, rows, *, checkpoint="a.pt", **options):
    write_rows(rows, tmp_path / "rows.h5")
    write_json({"cor_px": (COR_PX + np.arange(-6.0, 7.0, 2.0)).tolist()}, tmp_path / "try.json")
    options = {"methods": ["dinov2"], "dinov2_checkpoint": tmp_path / checkpoint} | options
    return predict_in(tmp_path, min_confidence=0.5, **options)


def test_the_prediction_names_the_classifier_and_its_hash(tmp_path, rows):
    path = save(tmp_path / "a.pt", random_state(64, grid=16), window_size=224)
    model = {"name": "a.pt", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    alone = _predict(tmp_path, rows)
    assert alone["method"] == "dinov2"
    assert alone["model"] == alone["methods"]["dinov2"]["model"] == model
    second = _predict(tmp_path, rows, methods=["classical", "dinov2"])
    assert (second["method"], "model" in second) == ("classical", False)
    assert second["methods"]["dinov2"]["model"] == model


def test_a_checkpoint_that_does_not_load_fails_the_prediction(tmp_path, rows):
    (tmp_path / "a.pt").write_bytes(b"foreign")
    failed = _predict(tmp_path, rows, methods=["classical", "dinov2"])
    assert (failed["verdict"], failed["cor_px"]) == ("failed", None)
    assert "a.pt: expected a checkpoint" in failed["reason"]
    assert "sha256" in failed["methods"]["dinov2"]["model"]


@pytest.mark.parametrize("module", ["tomopipe.cor.ai.dinov2", "transformers"])
def test_without_its_libraries_the_prediction_says_what_to_install(
    tmp_path, rows, monkeypatch, module
):
    monkeypatch.setitem(sys.modules, module, None)
    save(tmp_path / "a.pt", random_state(64, grid=16), window_size=224)
    failed = _predict(tmp_path, rows)
    assert failed["verdict"] == "failed"
    assert "pip install 'tomopipe[torch]'" in failed["reason"]


def test_the_config_asks_for_the_checkpoint_of_the_method():
    block = {"methods": ["classical", "dinov2"]}
    with pytest.raises(TomopipeError, match=r"needs dinov2_checkpoint"):
        parse_config({"campaign": {"scans": ["*.h5"]}, "predict_cor": block})
    block |= {"dinov2_checkpoint": "models/a.pt"}
    config = parse_config({"campaign": {"scans": ["*.h5"]}, "predict_cor": block})
    assert config.predict_cor.dinov2_checkpoint == "models/a.pt"


@pytest.mark.parametrize(
    ("size_px", "window_px", "corners"),
    [
        (600, 518, [(52, 81), (0, 81), (64, 0)]),
        (1001, 518, [(173, 64), (17, 209), (35, 266)]),
        (2048, 518, [(1059, 53), (0, 315), (1149, 956)]),
        (300, 224, [(0, 27), (75, 55), (9, 0)]),
        (600, 518, [(41, 41)]),
    ],
)
def test_corners_are_those_that_tomo_center_draws(size_px, window_px, corners):
    """The truth is what `tomo-center find` drew for these sizes, with its seed 10."""
    found = window_corners(size_px, window_px, len(corners))
    assert found.tolist() == [list(corner) for corner in corners]


def test_grey_values_span_0_to_1_in_steps_of_1_255():
    image = np.linspace(-3, 7, 40 * 40).reshape(40, 40)
    windows = cut_windows(image, np.array([[0, 0], [12, 12]]), 28)
    assert windows.dtype == np.float32
    assert windows.shape == (2, 28, 28)
    assert (windows[0, 0, 0], windows[1, 27, 27]) == (0, pytest.approx(1, abs=1 / 254))
    assert windows * 255 == pytest.approx(np.round(windows * 255), abs=1e-4)
    # Rounded down, as by the cast of the original.
    share = (image[5, 9] + 3) / 10
    assert windows[0, 5, 9] == pytest.approx(np.floor(share * 255) / 255)
    assert not cut_windows(np.full((40, 40), 5.0), np.array([[0, 0]]), 28).any()
