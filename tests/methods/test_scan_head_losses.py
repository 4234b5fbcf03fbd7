"""The losses of SCAN's heads over all images, against loops, and what they cost."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from sslpipe.methods import _heads
from sslpipe.methods._heads import Pairs, losses_of
from sslpipe.nets.heads import ClusterHeads, ClusterSettings

ROOT = Path(__file__).parents[2]


def example(count=30, dimension=5, mined=4, heads=3, clusters=6, seed=0):
    """Pairs and heads with large weights, so that probabilities are far from equal."""
    random = torch.Generator().manual_seed(seed)
    pairs = Pairs(
        torch.randn(count, dimension, generator=random), torch.randint(count, (count, mined), generator=random)
    )
    found = ClusterHeads(dimension, ClusterSettings(clusters=clusters, heads=heads))
    with torch.no_grad():
        for weight in found.parameters():
            weight.copy_(3 * torch.randn(weight.shape, generator=random))
    return pairs, found


@torch.no_grad()
def by_loops(pairs, heads, entropy_weight):
    """Eq. 2 of SCAN, head by head, image by image, neighbour by neighbour, in double precision."""
    losses = []
    for head in range(heads.settings.heads):
        layer = heads.single(head).double()
        p = [layer(row).softmax(dim=0) for row in pairs.features.double()]
        agreement = [(p[i] @ p[j]).log() for i, row in enumerate(pairs.neighbors.tolist()) for j in row]
        mean = sum(p) / len(p)
        losses.append(-sum(agreement) / len(agreement) + entropy_weight * (mean * mean.log()).sum())
    return torch.stack(losses)


BYTES_OF_A_HEAD = 4 * 30 * 6
KEPT = {"all heads": 1 << 29, "two heads": 2 * BYTES_OF_A_HEAD, "one": BYTES_OF_A_HEAD, "none": BYTES_OF_A_HEAD - 1}


@pytest.mark.parametrize("kept", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("chunk", [4096, 7])
def test_the_losses_are_those_of_loops_whatever_is_kept(kept, chunk, monkeypatch):
    monkeypatch.setattr(_heads, "KEPT_BYTES", kept)
    monkeypatch.setattr(_heads, "CHUNK", chunk)
    pairs, heads = example()
    found = losses_of(pairs, heads, entropy_weight=2.0)
    assert found.shape == (3,)
    torch.testing.assert_close(found, by_loops(pairs, heads, 2.0), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(2, 20), mined=st.integers(1, 5), heads=st.integers(2, 4), kept=st.integers(0, 3000))
def test_what_is_kept_changes_no_loss(count, mined, heads, kept):
    pairs, found = example(count, mined=mined, heads=heads, seed=count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_heads, "KEPT_BYTES", kept)
        some = losses_of(pairs, found, entropy_weight=5.0)
    torch.testing.assert_close(some, by_loops(pairs, found, 5.0), rtol=1e-5, atol=1e-5)


def products(pairs, heads):
    """Passes of all images through all heads, by the operations of their matrix products."""
    with FlopCounterMode(display=False) as counter:
        losses_of(pairs, heads, entropy_weight=5.0)
    count, dimension = pairs.features.shape
    return counter.get_total_flops() / (2 * count * dimension * heads.settings.heads * heads.settings.clusters)


def test_each_image_passes_each_head_once(monkeypatch):
    monkeypatch.setattr(_heads, "CHUNK", 7)
    pairs, heads = example()
    for name, kept in KEPT.items():
        monkeypatch.setattr(_heads, "KEPT_BYTES", kept)
        assert products(pairs, heads) == (1 + pairs.neighbors.shape[1] if name == "none" else 1), name


MEMORY = """
import torch
from benchmarks.mining import peak_of
from sslpipe.methods._heads import CHUNK, Pairs, losses_of
from sslpipe.nets.heads import ClusterHeads, ClusterSettings

pairs = Pairs(torch.randn(4 * CHUNK, 8), torch.randint(4 * CHUNK, (4 * CHUNK, 20)))
heads = ClusterHeads(8, ClusterSettings(clusters=100, heads=10))
print(peak_of(lambda: losses_of(pairs, heads, entropy_weight=5.0))[0])
"""


def test_memory_is_that_of_the_kept_probabilities_and_of_some_chunks():
    # In a process of its own: another one may have freed memory, which it would take again.
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True)
    chunk = 4 * 10 * 100 * _heads.CHUNK / 1e9
    assert not float(done.stdout) > 4 * chunk + 12 * chunk  # "nan" where the system does not tell it
