import pytest
import torch
from every_method import losses_of

from sslpipe.data.batches import Batch
from sslpipe.methods.self_label.confident import Method, Problem, Settings
from sslpipe.nets.heads import LinearHead, LinearSettings
from sslpipe.nets.inference import infer


@pytest.fixture
def labelling(digits, network):
    def build(**settings):
        network.head = LinearHead(network.backbone.dimension, LinearSettings(outputs=10))
        return Method(Settings(**settings), Problem(network, digits[0]))

    return build


def first_batch(digits):
    index = torch.arange(40)
    return Batch(image=digits[0][index], index=index)


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_the_batch_norms_of_the_pseudo_labels(digits, labelling, statistics):
    # Public code: in train mode, so that the plain images and the strong views each update the statistics once.
    method = labelling(threshold=0.0, target_statistics=statistics)
    method.train()
    seen = []
    method.network.register_forward_hook(lambda module, _, output: seen.append(module.training))
    counts = [m.num_batches_tracked.item() for m in method.modules() if hasattr(m, "num_batches_tracked")]
    losses_of(method, first_batch(digits), torch.Generator().manual_seed(0))
    plain_ones = statistics == "batch"
    assert seen == [plain_ones, True]
    after = [m.num_batches_tracked.item() for m in method.modules() if hasattr(m, "num_batches_tracked")]
    assert after == [count + 1 + plain_ones for count in counts]


def test_averaged_targets_see_plain_images_alone(digits, labelling):
    method = labelling(targets="averaged", target_statistics="batch")
    method.train()
    losses_of(method, first_batch(digits), torch.Generator().manual_seed(0))
    layers = [m for m in method.averaged.modules() if hasattr(m, "num_batches_tracked")]
    assert {layer.num_batches_tracked.item() for layer in layers} == {1}
    before = [layer.running_mean.clone() for layer in layers]
    method.after_step()
    assert all(torch.equal(layer.running_mean, mean) for layer, mean in zip(layers, before, strict=True))


@pytest.mark.parametrize("targets", ["model", "averaged"])
@pytest.mark.parametrize("final", ["plain", "training"])
def test_the_finished_model_has_statistics_of_plain_images(digits, labelling, targets, final):
    method = labelling(targets=targets, final_statistics=final)
    method.after_epoch({"confident": 0.5})
    network, seen = method.selected().eval(), []
    layer = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    infer(network, digits[0])
    expected = torch.cat(seen).mean(dim=(0, 2, 3))
    assert torch.allclose(layer.running_mean, expected, atol=1e-4) == (final == "plain")


def test_nothing_confident_is_a_skipped_batch(digits, labelling):
    terms = losses_of(labelling(threshold=1.0), first_batch(digits), torch.Generator())
    assert terms["skipped"] == 1
    assert terms["confident"] == 0
    assert terms["loss"] == 0


def test_ends_when_the_confident_count_no_longer_rises(labelling):
    method = labelling(patience=2, min_delta=0.01)
    for confident, finished in ((0.5, False), (0.6, False), (0.605, False), (0.606, True)):
        method.after_epoch({"confident": confident})
        assert method.finished is finished


def test_none_in_a_whole_epoch_ends_the_run_with_the_weights_that_it_began_with(labelling, capsys):
    method = labelling()
    before = {name: value.clone() for name, value in method.network.state_dict().items()}
    with torch.no_grad():
        method.network.head.weight += 1
    method.after_epoch({"confident": 0.0})
    assert method.finished
    assert "lower self_label.confident.threshold (0.99)" in capsys.readouterr().out
    assert all(torch.equal(value, before[name]) for name, value in method.selected().state_dict().items())


def test_the_model_itself_is_kept_once_it_has_learned(labelling):
    method = labelling(targets="model")
    assert method.selected() is not method.network
    method.after_epoch({"confident": 0.5})
    assert method.selected() is method.network


def test_the_average_follows_and_is_what_is_kept(digits, labelling):
    method = labelling(targets="averaged", ema_decay=0.9)
    before = method.averaged.module.head.weight.clone()
    with torch.no_grad():
        method.network.head.weight += 1
    method.after_step()
    method.after_epoch({"confident": 0.5})
    torch.testing.assert_close(method.averaged.module.head.weight, before + 0.1)
    assert method.selected() is method.averaged.module
