import pytest
import torch
from every_method import losses_of

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.io.errors import UserError
from sslpipe.methods.cluster.scan import Method, Neighborhood, Problem, Settings
from sslpipe.nets import inference
from sslpipe.objectives.scan import scan


def neighborhood(images, k=3):
    count = len(images)
    return Neighborhood(images, (torch.arange(count)[:, None] + torch.arange(1, k + 1)) % count)


def build(digits, network, k=3, **settings):
    neighborhoods = (neighborhood(images, k) for images in digits[:2])
    return Method(Settings(clusters=10, neighbors=k, **settings), Problem(network, *neighborhoods))


def batch(digits, count=50):
    index = torch.arange(count)
    return Batch(image=digits[0][index], index=index)


def end_epoch(method, epoch=1):
    """End an epoch, which is one step here, and begin the next one."""
    method.progress = Progress(step=epoch, total=10)
    return method.after_epoch({})


def test_each_image_meets_each_of_its_neighbours_as_often(digits, network):
    method = build(digits, network)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([method.draw_neighbors(torch.arange(50), generator) for _ in range(600)])
    gap = (drawn - torch.arange(50)) % 300
    shares = torch.stack([(gap == g).float().mean() for g in (1, 2, 3)])
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.01, rtol=0)


def test_an_image_may_be_one_of_its_own_neighbours(digits, network):
    # Public code: uniformly among K + 1 entries, the image being one of them.
    method = build(digits, network, pair_with_itself=True)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([method.draw_neighbors(torch.arange(50), generator) for _ in range(600)])
    gap = (drawn - torch.arange(50)) % 300
    shares = torch.stack([(gap == g).float().mean() for g in (0, 1, 2, 3)])
    torch.testing.assert_close(shares, torch.full((4,), 1 / 4), atol=0.01, rtol=0)


def test_neighbours_are_drawn_by_the_generator(digits, network):
    method = build(digits, network)
    first, again, other = (method.draw_neighbors(torch.arange(50), torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_as_many_clusters_as_images_are_possible_and_no_more(digits, network):
    neighborhoods = [neighborhood(images) for images in digits[:2]]
    assert Method(Settings(clusters=300), Problem(network, *neighborhoods)).settings.clusters == 300
    with pytest.raises(UserError, match=r"^cluster\.clusters: 301"):
        Method(Settings(clusters=301), Problem(network, *neighborhoods))


def test_without_neighbours_an_image_meets_another_view_of_itself(digits, network):
    method = build(digits, network, k=0)
    assert torch.equal(method.draw_neighbors(torch.arange(50), torch.Generator()), torch.arange(50))
    image = digits[0][torch.arange(50)]
    both = Batch(image=image, index=torch.arange(50), neighbor=torch.arange(50), neighbor_image=image)
    views, others = method.draw_views(both, torch.Generator().manual_seed(0)).chunk(2)
    assert not torch.equal(views, others)


def test_the_loss_is_summed_over_heads(digits, network):
    method = build(digits, network, heads=3)
    terms = losses_of(method, batch(digits), torch.Generator().manual_seed(0))
    method.train()
    torch.testing.assert_close(terms["loss"], 3 * (terms["consistency"] - 2 * terms["entropy"]))


def test_the_head_and_the_epoch_of_the_lowest_held_out_loss_are_kept(digits, network):
    method = build(digits, network, heads=2)
    with torch.no_grad():
        method.network.head.linear.weight[10:] *= 30
    first = end_epoch(method)
    network.eval()
    logits = network(digits[1][torch.arange(60)].float() / 255).detach()
    losses = [
        torch.stack(
            [scan(logits[h], logits[h][method.held_out.neighbors[:, j]], entropy_weight=2.0)["loss"] for j in range(3)]
        ).mean()
        for h in range(2)
    ]
    assert first["held_out/loss"] == pytest.approx(min(losses).item(), rel=1e-4)
    assert int(method.best_head) == int(torch.stack(losses).argmin())
    kept = logits[int(method.best_head)]
    with torch.no_grad():
        for weight in network.parameters():
            weight.zero_()
    worse = end_epoch(method, 2)
    assert worse["held_out/loss"] > first["held_out/loss"]
    selected = method.selected().eval()
    torch.testing.assert_close(selected(digits[1][torch.arange(60)].float() / 255), kept, rtol=1e-4, atol=1e-5)


def test_the_held_out_loss_is_the_same_over_several_batches(digits, network, monkeypatch):
    method = build(digits, network, heads=2)
    expected = end_epoch(method)["held_out/loss"]
    monkeypatch.setattr(inference, "CPU_BATCH", 16)
    assert end_epoch(method)["held_out/loss"] == pytest.approx(expected, rel=1e-4)


def test_the_best_weights_outlive_a_checkpoint(digits, network):
    method = build(digits, network)
    end_epoch(method)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    assert state["best_loss"].isfinite()
    assert any(name.startswith("best_backbone") for name in state)


def test_heads_learn_alone_first_on_cached_features(digits, network):
    features = [torch.randn(len(images), 64, generator=torch.Generator().manual_seed(0)) for images in digits[:2]]
    neighborhoods = [
        Neighborhood(images, neighborhood(images).neighbors, cached)
        for images, cached in zip(digits[:2], features, strict=True)
    ]
    method = Method(Settings(clusters=10, neighbors=3, head_epochs=1), Problem(network, *neighborhoods))
    losses_of(method, batch(digits), torch.Generator())["loss"].backward()
    assert all(weight.grad is None for weight in network.backbone.parameters())
    assert network.head.linear.weight.grad is not None
    end_epoch(method)
    losses_of(method, batch(digits), torch.Generator())["loss"].backward()
    assert all(weight.grad is not None for weight in network.backbone.parameters())


def test_heads_may_learn_alone_from_views_by_a_network_in_eval_mode(digits, network):
    method = build(digits, network, head_epochs=1, head_inputs="views")
    modes = []
    network.backbone.register_forward_hook(lambda module, *_: modes.append((module.training, torch.is_grad_enabled())))
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    method.train()
    losses_of(method, batch(digits), torch.Generator().manual_seed(0))["loss"].backward()
    assert network.head.linear.weight.grad is not None
    assert all(weight.grad is None for weight in network.backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.backbone.state_dict().items())
    method.progress = Progress(step=1, total=10)
    losses_of(method, batch(digits), torch.Generator().manual_seed(0))["loss"].backward()
    assert all(weight.grad is not None for weight in network.backbone.parameters())
    assert modes == [(False, False), (True, True)]


@pytest.mark.parametrize(("statistics", "passes"), [("joint", [100]), ("separate", [50, 50])])
def test_images_and_neighbours_share_batch_statistics_or_do_not(digits, network, statistics, passes):
    # Public code: two passes, so that the running statistics move twice in a step.
    method = build(digits, network, batch_statistics=statistics)
    layer = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen = []
    network.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    before = int(layer.num_batches_tracked)
    method.train()
    losses_of(method, batch(digits), torch.Generator().manual_seed(0))
    assert seen == passes
    assert layer.num_batches_tracked == before + len(passes)


def test_each_step_has_new_views_for_the_heads(digits, network):
    method = build(digits, network, head_epochs=1, head_inputs="views")
    first, again, other = (
        losses_of(method, batch(digits), torch.Generator().manual_seed(seed))["loss"] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("weight", "expected"), [(None, 5.0), (1.0, 1.0)])
def test_the_held_out_loss_may_have_another_entropy_weight(digits, network, weight, expected):
    method = build(digits, network, entropy_weight=5.0, held_out_entropy_weight=weight)
    row = end_epoch(method)
    logits = network.eval()(digits[1][torch.arange(60)].float() / 255).detach()[0]
    losses = [scan(logits, logits[near], entropy_weight=expected)["loss"] for near in method.held_out.neighbors.T]
    assert row["held_out/loss"] == pytest.approx(float(sum(losses) / 3), rel=1e-4)


def test_the_held_out_loss_is_of_cached_features_as_long_as_the_heads_learn_alone(digits, network):
    neighborhoods = [
        Neighborhood(images, neighborhood(images).neighbors, torch.randn(len(images), 64)) for images in digits[:2]
    ]
    method = Method(Settings(clusters=10, neighbors=3, head_epochs=1), Problem(network, *neighborhoods))
    for epoch in (1, 2):
        row = end_epoch(method, epoch)
        network.eval()
        cached, images = method.held_out.features, digits[1][torch.arange(60)].float() / 255
        logits = (network.head(cached) if epoch == 1 else network(images)).detach()[0]
        pairs = [scan(logits, logits[near], entropy_weight=2.0)["loss"] for near in method.held_out.neighbors.T]
        assert row["held_out/loss"] == pytest.approx(float(sum(pairs) / 3), rel=1e-4)
        assert not method.best_loss.requires_grad


def test_epochs_of_the_heads_alone_are_no_candidates_before_their_last(digits, network):
    neighborhoods = [
        Neighborhood(images, neighborhood(images).neighbors, torch.randn(len(images), 64)) for images in digits[:2]
    ]
    method = Method(Settings(clusters=10, neighbors=3, head_epochs=2), Problem(network, *neighborhoods))
    end_epoch(method, 1)
    assert method.best_loss.isinf()
    end_epoch(method, 2)
    assert method.best_loss.isfinite()


def test_the_training_loss_may_choose_the_head(digits, network):
    method = build(digits, network, heads=3, select_head_by="train")
    method.train_losses.copy_(torch.tensor([-3.0, -9.0, -5.0]))
    end_epoch(method)
    assert int(method.best_head) == 1


def test_the_backbone_may_learn_more_slowly(digits, network):
    method = build(digits, network, backbone_rate=0.1)
    rates = {name: method.rate(name) for name, _ in method.named_parameters()}
    assert {rate for name, rate in rates.items() if "backbone" in name} == {0.1}
    assert {rate for name, rate in rates.items() if "head" in name} == {1.0}
