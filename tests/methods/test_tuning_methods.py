"""Methods with few labels that train a part of the backbone, or low-rank updates of it."""

import copy
from dataclasses import replace

import pytest
import torch
from every_method import LABELLED_METHODS, METHODS, stream_of, tiny_problem, train

from sslpipe.data.images import Images
from sslpipe.engine.trainer import Trainer
from sslpipe.nets.inference import infer
from sslpipe.nets.network import BackboneSettings, Network
from sslpipe.nets.preprocessing import InputSettings
from sslpipe.nets.tuning import TuningSettings
from sslpipe.views.policies import ViewSettings

TUNED = {
    "none": {"train": "none"},
    "last_blocks": {"train": "last_blocks", "blocks": 1},
    "lora": {"train": "lora", "rank": 2},
}
NAMES = [name for name in LABELLED_METHODS if " last " not in name and " lora" not in name]


def tuned(name, digits, network, **block):
    """The method in its tiny form, with other settings of the backbone."""
    settings, method = LABELLED_METHODS[name](digits, copy.deepcopy(network))
    if "alternation" in name:
        settings = replace(settings, ssl={**settings.ssl, "backbone": block})
    else:
        settings = replace(settings, backbone=TuningSettings(**block))
    torch.manual_seed(0)
    return settings, type(method)(settings, tiny_problem(digits, network))


@pytest.mark.parametrize("kind", TUNED)
@pytest.mark.parametrize("name", NAMES)
def test_models_have_plain_weights_and_those_that_are_not_trained_as_they_were(name, kind, digits, network):
    before = {key: value.clone() for key, value in network.backbone.state_dict().items()}
    distances = network.backbone.distances()
    settings, method = tuned(name, digits, network, **TUNED[kind])
    head = {key: value.clone() for key, value in method.selected().head.state_dict().items()}
    train(name, digits, settings, method, batch=75, epochs=4, lr=1e-2)
    found = method.selected()
    after = found.backbone.state_dict()
    assert after.keys() == before.keys()
    changed = {key for key in before if not torch.equal(after[key], before[key])}
    if kind == "none":
        assert not changed
    elif kind == "lora":
        assert changed == {"blocks.1.shortcut.0.weight", "blocks.2.shortcut.0.weight"}
    else:
        assert changed & distances.keys() == {key for key, distance in distances.items() if distance == 1}
        assert all(key.startswith("blocks.2.") for key in changed)
    assert any(not torch.equal(value, head[key]) for key, value in found.head.state_dict().items())
    # Selecting a model changes nothing of the run.
    images = digits[1]
    assert torch.equal(infer(found.eval(), images), infer(method.selected().eval(), images))


def test_updates_of_a_trained_network_learn_more_than_its_head_alone(digits, network):
    """The labels are others than the network was trained with: whether a digit is odd."""
    settings, method = LABELLED_METHODS["semisup/supervised"](digits, network)
    train("semisup/supervised", digits, settings, method, batch=50, epochs=10, lr=3e-3)
    start, loss = method.selected(), {}
    start.head = torch.nn.Identity()
    images, held_out, *labels = digits
    parity = (images, held_out, *(label % 2 for label in labels))
    for kind in ("none", "lora"):
        torch.manual_seed(0)
        settings, method = tuned("semisup/supervised", parity, start, **TUNED[kind])
        history = train("semisup/supervised", parity, settings, method, batch=50, epochs=10, lr=3e-3)
        loss[kind] = history[-1]["loss"]
    assert loss["lora"] < 0.9 * loss["none"]


@pytest.mark.parametrize("name", ["semisup/fixmatch", "semisup/suave", "semisup/alternation"])
def test_the_optimiser_has_the_rates_of_the_blocks_and_of_their_updates(name, digits, network):
    settings, method = tuned(name, digits, network, train="lora", rank=2, layer_decay=0.5)
    trainer = Trainer(method, stream_of(digits, settings, method, 75), replace(settings.fit, batch=75), seed=0)
    names = {weight: key for key, weight in method.named_parameters()}
    rates = {names[weight]: group["rate"] for group in trainer.optimizer.param_groups for weight in group["params"]}
    base = "base." if "alternation" in name else ""
    expected = {
        f"{base}network.backbone.blocks.{block}.shortcut.0.parametrizations.weight.0.{part}": rate
        for block, rate in ((1, 0.25), (2, 0.5))
        for part in "ab"
    }
    assert {key: rate for key, rate in rates.items() if key.startswith(f"{base}network.backbone.")} == expected
    others = {rate for key, rate in rates.items() if not key.startswith(f"{base}network.backbone.")}
    assert others == {1.0}


def test_what_is_trained_is_said_at_the_start(digits, network, capsys):
    tuned("semisup/fixmatch", digits, network, train="last_blocks", blocks=2)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "fixmatch: trains 0.073 of 0.078 million weights, the head and the last 2 of 3 blocks "
        "(backbone.train: last_blocks)"
    )


def published(resize):
    """A network that resizes images before it sees 4 px of them, as those with published weights do."""
    torch.manual_seed(0)
    given = InputSettings(resize=resize, crop=4, interpolation="bilinear")
    backbone = BackboneSettings(name="tiny_resnet", side=4)
    return Network(backbone, mean=[0.3], std=[0.4], input=given, channels=1, size=8)


@pytest.mark.parametrize("name", ["cluster/scan", "self_label/confident"])
@pytest.mark.parametrize(
    ("is_published", "statistics", "kept"),
    [(True, None, True), (False, None, False), (True, "batch", False), (False, "start", True)],
)
def test_batch_norms_of_a_published_network_keep_their_statistics(
    name, is_published, statistics, kept, digits, network, capsys
):
    settings, method = METHODS[name](digits, published(6) if is_published else network, statistics=statistics)
    key = name.replace("/", ".")
    assert (f"{key}: batch norms keep the statistics of the start" in capsys.readouterr().out) == kept
    before = {key: value.clone() for key, value in method.network.state_dict().items()}
    train(name, digits, settings, method, batch=50, epochs=2, lr=1e-2)
    after = method.selected().state_dict()
    running = [key for key in before if "running" in key]
    assert running
    assert all(torch.equal(after[key], before[key]) == kept for key in running)
    assert not torch.equal(after["backbone.stem.0.weight"], before["backbone.stem.0.weight"])


@pytest.mark.parametrize("name", ["semisup/fixmatch", "semisup/alternation", "cluster/scan", "self_label/confident"])
@pytest.mark.parametrize("resize", [4, 6])
def test_a_view_without_changes_is_what_predictions_see(name, resize, digits, generator):
    """Stored images of 8 px, which a published network resizes before it sees 4 px of them."""
    network = published(resize)
    _, method = METHODS[name](digits, network)
    views = (method.base if "alternation" in name else method).views
    views.settings = replace(ViewSettings(policy="plain"), window="central").resolved()
    images = digits[0][torch.arange(20)]
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] * network.std + network.mean))
    infer(network.eval().features, Images(images.numpy(), torch.device("cpu")))
    found = views(images, generator)
    assert found.shape[-1] == 4
    torch.testing.assert_close(found, torch.cat(seen), rtol=0, atol=0.51 / 255)
