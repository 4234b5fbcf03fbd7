"""What SCAN computes at the end of an epoch: the loss of eq. 2, and no more than it takes."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from sslpipe.engine.method import Progress
from sslpipe.methods.cluster import scan as module
from sslpipe.methods.cluster.scan import Method, Neighborhood, Problem, Settings, held_out_loss
from sslpipe.objectives.scan import scan

HEADS, CLUSTERS, K = 4, 200, 3


class Operations(TorchDispatchMode):
    """Names of the operations with their number, and the most elements that one returned."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = Counter(), 0

    def __torch_dispatch__(self, function, types, given=(), named=None):
        result = function(*given, **(named or {}))
        self.names[function._schema.name] += 1
        if isinstance(result, torch.Tensor) and result._base is None:
            self.largest = max(self.largest, result.numel())
        return result


def built(digits, network, **settings):
    """Four heads on features, with three neighbours of each image."""
    hoods = []
    for images in digits[:2]:
        random = torch.Generator().manual_seed(len(images))
        neighbors = torch.randint(len(images), (len(images), K), generator=random)
        hoods.append(Neighborhood(images, neighbors, torch.randn(len(images), 32, generator=random)))
    chosen = Settings(**{"clusters": CLUSTERS, "heads": HEADS, "neighbors": K, "head_epochs": 1, **settings})
    network.backbone.dimension = 32
    method = Method(chosen, Problem(network, *hoods))
    method.progress = Progress(step=1)
    return method


@pytest.mark.parametrize("neighbors", [0, K])
@pytest.mark.parametrize("select_head_by", ["held_out", "train"])
@pytest.mark.parametrize("chunk", [7, 1024])
def test_the_loss_is_eq_2_over_all_neighbours(digits, network, neighbors, select_head_by, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    method = built(digits, network, neighbors=neighbors, select_head_by=select_head_by, held_out_entropy_weight=1.5)
    method.train_losses.copy_(torch.tensor([3.0, 1.0, 0.5, 2.0]))
    row = method.after_epoch({})
    logits = method.network.head(method.held_out.features).detach().double()
    pairs = method.held_out.neighbors.T if neighbors else torch.arange(60)[None]
    losses = [scan(logits, logits[:, column], entropy_weight=1.5)["loss"] for column in pairs]
    losses = torch.stack(losses).mean(dim=0)
    head = int(losses.argmin()) if select_head_by == "held_out" else 2
    assert int(method.best_head) == head
    assert row["held_out/loss"] == pytest.approx(losses[head].item(), rel=1e-5, abs=1e-5)
    assert row["held_out/clusters"] == len(logits[head].argmax(dim=1).unique())


@pytest.mark.parametrize(("select_head_by", "heads"), [("held_out", HEADS), ("train", 1)])
def test_log_probabilities_are_computed_once_a_head_and_of_one_head_at_a_time(digits, network, select_head_by, heads):
    method = built(digits, network, select_head_by=select_head_by)
    method.get_buffer("best_loss").fill_(-1e9)  # no weights are copied
    with Operations() as seen:
        method.after_epoch({})
    assert seen.names["aten::_log_softmax"] == heads
    assert seen.largest <= 60 * CLUSTERS


def test_products_of_probabilities_are_computed_by_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 10)
    logits, neighbors = torch.randn(95, 8), torch.randint(95, (95, 2))
    shapes = []
    real = torch.logsumexp
    monkeypatch.setattr(torch, "logsumexp", lambda value, dim: shapes.append((dim, len(value))) or real(value, dim))
    held_out_loss(logits, neighbors, entropy_weight=1.0)
    assert sorted(set(shapes)) == [(0, 95), (1, 5), (1, 10)]
