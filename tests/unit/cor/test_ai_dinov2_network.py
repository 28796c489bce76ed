"""The DINOv2 classifier, against a second implementation with the same random weights."""

import builtins

import numpy as np
import pytest
import torch
from dinov2_weights import random_state, reference_features

from tomopipe.cor.ai.dinov2_checkpoint import DEPTHS, Checkpoint
from tomopipe.cor.ai.dinov2_network import Classifier, make_backbone
from tomopipe.errors import TomopipeError

pytestmark = pytest.mark.slow


def windows_of(size_px, n=1):
    grey = np.random.default_rng(0).integers(0, 256, (n, size_px, size_px)).astype(np.float32)
    return grey / np.float32(255)


@pytest.fixture(scope="module")
def short():
    """The width of ViT-B, two blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DEPTHS, 768, 2)
        yield Checkpoint(random_state(768), 768, 2, 518, 3)


@torch.inference_mode()
def assert_agrees(checkpoint, window_px, n=1):
    windows = windows_of(window_px, n)
    images = torch.from_numpy(windows)[:, None].expand(-1, 3, -1, -1)
    features = make_backbone(checkpoint, window_px)(pixel_values=images).last_hidden_state[:, 0]
    expected = reference_features(checkpoint.state, windows)
    assert expected.std() > 0.3
    assert features.numpy() == pytest.approx(expected.numpy(), abs=1e-4)


@pytest.mark.parametrize("window_px", [518, 224])
def test_two_blocks_agree_to_1e_4(short, window_px):
    assert_agrees(short, window_px)


def test_the_whole_of_vit_s_agrees_to_1e_4():
    assert_agrees(Checkpoint(random_state(384), 384, 12, 518, 3), 224)


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


def test_a_single_window_goes_to_the_head_alone(short):
    state = random_state(768, pooled=False)
    network = Classifier(Checkpoint(state, 768, 2, 518, 1), 56)
    windows = windows_of(56)
    with torch.inference_mode():
        features = reference_features(state, windows)[0]
        logits = state["head.weight"] @ features + state["head.bias"]
        assert network(torch.from_numpy(windows)).numpy() == pytest.approx(logits.numpy(), abs=1e-4)


def test_without_transformers_the_error_says_what_to_install(short, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "transformers":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(TomopipeError, match=r"pip install 'tomopipe\[torch\]'"):
        make_backbone(short, 56)
