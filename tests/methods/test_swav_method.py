import pytest
import torch
from every_method import CROPS, METHODS, batch_of, losses_of, outputs_of, pretext_given, train
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain.swav import Method, Settings
from sslpipe.nets.heads import PrototypeSettings
from sslpipe.objectives.swav import sinkhorn


def build(digits, network, **settings):
    given = {"prototypes": 12, "hidden": 32, "outputs": 16, **CROPS, "queue": 0}
    return Method(Settings(**given | settings), pretext_given(digits, network))


def embeddings(count, seed):
    return F.normalize(torch.randn(2, count, 16, generator=torch.Generator().manual_seed(seed)), dim=2)


def test_the_loss_is_equation_6_crop_by_crop(digits, network, monkeypatch):
    method = build(digits, network)
    given = {}
    features = network.features_of
    monkeypatch.setattr(network, "features_of", lambda *views: given.setdefault("features", features(*views)))
    method.assignment.register_forward_hook(lambda module, arguments, output: given.setdefault("targets", output))
    index = torch.arange(30)
    terms = losses_of(method, Batch(image=digits[0][index], index=index), torch.Generator().manual_seed(0))
    assert [len(crop) for crop in given["features"]] == [30, 30, 30]
    logits = network.head(torch.cat(given["features"])).log_softmax(dim=1).double().detach().split(30)
    swapped = pairs = 0
    for other, target in enumerate(given["targets"]):
        for view, prediction in enumerate(logits):
            if view != other:
                swapped -= float((target.double() * prediction).sum() / 30)
                pairs += 1
    assert terms["loss"].item() == pytest.approx(swapped / pairs, rel=1e-4)


@pytest.mark.parametrize(
    ("statistics", "passes", "embedded"), [("joint", [60, 30], [90]), ("separate", 3 * [30], 3 * [30])]
)
def test_views_of_one_size_share_a_pass_unless_they_are_separate(
    digits, network, generator, statistics, passes, embedded
):
    method = build(digits, network, batch_statistics=statistics).train()
    features, embeddings = outputs_of(network.backbone), outputs_of(network.head.projection)
    losses_of(method, batch_of(digits), generator)
    assert [len(output) for output in features] == passes
    assert [len(output) for output in embeddings] == embedded


def test_the_queue_is_used_once_it_is_full_and_its_epoch_has_come(digits, network, monkeypatch):
    method = build(digits, network, queue=10, queue_from_epoch=2.0, epsilon=0.1)
    head, earlier = network.head, torch.empty(2, 0, 16)
    index, assigned = torch.arange(4), []
    method.assignment.register_forward_hook(lambda module, given, output: assigned.append(output))
    for step in range(6):
        method.progress = Progress(step, 6, 2)  # the third epoch begins at step 4
        batch = embeddings(4, step)
        embedded = torch.cat([*batch, torch.zeros(4, 16)])  # of the two global crops and of the local one
        monkeypatch.setattr(head, "embed", lambda features, embedded=embedded: embedded)
        losses_of(method, Batch(image=digits[0][index], index=index), torch.Generator().manual_seed(step))
        targets = assigned[step]
        for crop in range(2):
            context = earlier[crop, -10:] if step >= 4 else earlier[crop, :0]
            expected = sinkhorn(head.scores(torch.cat([context, batch[crop]])), epsilon=0.1, iterations=3)[-4:]
            torch.testing.assert_close(targets[crop], expected, rtol=1e-3, atol=1e-5)
        earlier = torch.cat([earlier, batch], dim=1)


def test_prototypes_stay_for_the_first_epochs(digits, network):
    settings, method = METHODS["pretrain/swav"](digits, network)
    drawn = network.head.prototypes.weight.clone()
    train("pretrain/swav", digits, settings, method, batch=150, epochs=1, steps=1)
    assert torch.equal(network.head.prototypes.weight, drawn)
    network.head.prototypes.requires_grad_(True)
    train("pretrain/swav", digits, settings, method, batch=150, epochs=1)
    assert not torch.equal(network.head.prototypes.weight, drawn)


def test_the_head_is_as_set(digits, network):
    form = {"prototypes": 5, "hidden": 24, "outputs": 8, "temperature": 0.3}
    build(digits, network, **form)
    assert network.head.settings == PrototypeSettings(**form)
