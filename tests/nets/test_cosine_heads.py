"""Cosine heads against loops; saved and loaded."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.data.store import StoreInfo
from sslpipe.nets.cosine_heads import CosineHeads, CosineSettings
from sslpipe.nets.heads import build_head, outputs
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings, Network

SETTINGS = CosineSettings(outputs=3, hidden=6, embedding=4, temperature=0.2)


def unit(vector):
    return vector / vector.norm()


def by_loops(heads, head, row):
    """Logits [K] of one head for one row of standardised features [D]."""
    before = [weight @ row + bias for weight, bias in zip(heads.hidden[head], heads.hidden_bias[head], strict=True)]
    hidden = torch.stack([x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in before])  # GELU
    embedding = unit(heads.embedding[head] @ hidden + heads.embedding_bias[head])
    return torch.stack([unit(prototype) @ embedding / 0.2 for prototype in heads.prototypes[head]])


@given(count=st.integers(1, 4), rows=st.integers(1, 5), dimension=st.integers(1, 7), seed=st.integers(0, 99))
def test_all_heads_at_once_and_one_for_plain_features_are_those_of_loops(count, rows, dimension, seed):
    torch.manual_seed(seed)
    heads = CosineHeads(dimension, count, SETTINGS).double().requires_grad_(False)
    for weight in heads.parameters():
        weight.copy_(torch.randn(weight.shape))
    features, mean, deviation = torch.randn(rows, dimension), torch.randn(dimension), torch.rand(dimension) + 0.1
    features, mean, deviation = features.double(), mean.double(), deviation.double()
    found = heads((features - mean) / deviation)
    assert found.shape == (count, rows, 3)
    for head in range(count):
        expected = torch.stack([by_loops(heads, head, (row - mean) / deviation) for row in features])
        torch.testing.assert_close(found[head], expected)
        single = heads.single(head, mean=mean, deviation=deviation)
        torch.testing.assert_close(single(features).double(), expected, rtol=1e-3, atol=1e-3)  # float32
        torch.testing.assert_close(single.ordered([2, 0, 1])(features), single(features)[:, [2, 0, 1]])


def test_heads_differ_in_weights_of_a_truncated_normal_distribution():
    torch.manual_seed(0)
    heads = CosineHeads(50, 2, CosineSettings(outputs=3))
    for weight in (heads.hidden, heads.embedding, heads.prototypes):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not torch.equal(weight[0], weight[1])
    assert not heads.hidden_bias.any()
    assert not heads.embedding_bias.any()


def test_comes_back_from_its_file(tmp_path):
    info = StoreInfo(size=8, channels=1, mean=(0.3,), std=(0.4,), train=9, held_out=1, test=0, protocol="split",
                     fingerprint="0" * 64)  # fmt: skip
    network = Network(BackboneSettings(name="tiny_resnet"), SETTINGS, mean=(0.3,), std=(0.4,)).eval()
    save_model(tmp_path, network, card_for("cluster", info, {}, parent=None))
    loaded = load_model(tmp_path)[0].eval()
    assert loaded.head.settings == SETTINGS
    assert outputs(loaded.head) == 3
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=0)


def test_stays_in_float32_under_autocast_and_answers_for_zero():
    head = build_head(SETTINGS, 5)
    features = torch.randn(4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(features)
    assert torch.equal(found, head(features))
    assert head(torch.zeros(1, 5)).isfinite().all()
