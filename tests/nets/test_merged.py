import pytest
import torch

from sslpipe.data.store import StoreInfo
from sslpipe.io.errors import UserError
from sslpipe.nets.merged import MergedHead, MergedSettings
from sslpipe.nets.model_card import card_for
from sslpipe.nets.model_file import load_model, save_model
from sslpipe.nets.network import BackboneSettings, Network

GROUPS = (1, 0, 1, 2, 0)


def test_a_group_s_probability_is_the_sum_of_its_clusters():
    layer = torch.nn.Linear(6, 5)
    head = MergedHead.of(layer, GROUPS)
    features = torch.randn(7, 6)
    each = layer(features).softmax(dim=1)
    expected = torch.stack([each[:, [i for i, g in enumerate(GROUPS) if g == k]].sum(dim=1) for k in range(3)], dim=1)
    torch.testing.assert_close(head(features).softmax(dim=1), expected)
    torch.testing.assert_close(head.ordered([2, 0, 1])(features).softmax(dim=1), expected[:, [2, 0, 1]])


def test_a_group_that_is_impossible_leaves_gradients_finite():
    head = MergedSettings(groups=(0, 1)).build(2)
    head(torch.tensor([[1e4, -1e4]])).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("groups", [(0, 2), (1, 1)])
def test_groups_without_a_cluster_are_refused(groups):
    with pytest.raises(UserError, match="expected 0 to K - 1, each at least once"):
        MergedSettings(groups=groups).build(2)


def test_comes_back_from_its_file(tmp_path):
    info = StoreInfo(size=8, channels=1, mean=(0.3,), std=(0.4,), train=9, held_out=1, test=0, protocol="split",
                     fingerprint="0" * 64)  # fmt: skip
    tiny = BackboneSettings(name="tiny_resnet")
    network = Network(tiny, MergedSettings(groups=GROUPS), mean=(0.3,), std=(0.4,)).eval()
    save_model(tmp_path, network, card_for("cluster", info, {}, parent=None))
    images = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(load_model(tmp_path)[0].eval()(images), network(images), rtol=0, atol=0)
