import pytest
import torch
from every_method import CROPS, METHODS, batch_of, losses_of, outputs_of, pretext_given, train

from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain.dino import Method, Settings
from sslpipe.nets.heads import PrototypeSettings


def build(digits, network, **settings):
    given = {"prototypes": 12, "hidden": 32, "outputs": 16, **CROPS}
    return Method(Settings(**given | settings), pretext_given(digits, network))


def softmax(logits):
    return logits.double().softmax(dim=-1)


def test_the_loss_is_equation_3_crop_by_crop_and_the_center_moves(digits, network, monkeypatch):
    method = build(digits, network, teacher_temperature=(0.05, 0.05), center_momentum=0.75)
    with torch.no_grad():
        method.teacher.module.head.prototypes.weight.copy_(torch.randn(12, 16))
        method.center.copy_(torch.randn(12) / 10)
    given, center = {}, method.center.clone()
    crops = method.crops
    monkeypatch.setattr(method, "crops", lambda *a: given.setdefault("crops", crops(*a)))
    loss = losses_of(method.train(), batch_of(digits, 20), torch.Generator().manual_seed(0))["loss"]
    teacher = method.teacher.module
    with torch.no_grad():
        seen = teacher.head(teacher.features(torch.cat(given["crops"][:2])))
        taught = (seen * teacher.head.settings.temperature).split(20)
        student = network.head(torch.cat(network.features_of(given["crops"]))).split(20)
    expected = [
        -(softmax((taught[x] - center) / 0.05) * softmax(student[view]).log()).sum(dim=1).mean()
        for x in range(2)
        for view in range(3)
        if view != x
    ]
    assert loss.item() == pytest.approx(float(sum(expected) / 4), rel=1e-3)
    torch.testing.assert_close(
        method.center, 0.75 * center + 0.25 * torch.cat(taught).mean(dim=0), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize(
    ("statistics", "student", "teacher"), [("joint", [40, 20], [40]), ("separate", 3 * [20], 2 * [20])]
)
def test_views_of_one_size_share_a_pass_unless_they_are_separate(digits, network, statistics, student, teacher):
    method = build(digits, network, batch_statistics=statistics).train()
    seen = [outputs_of(module.backbone) for module in (network, method.teacher.module)]
    losses_of(method, batch_of(digits, 20), torch.Generator().manual_seed(0))
    assert [[len(output) for output in outputs] for outputs in seen] == [student, teacher]


def test_the_schedules_are_functions_of_the_step(digits, network):
    method = build(digits, network, teacher_temperature=(0.04, 0.08), teacher_temperature_epochs=4.0, ema_decay=0.9)
    for step, temperature, decay in ((0, 0.04, 1.0), (20, 0.06, 5.5), (40, 0.08, 10.0)):
        method.progress = Progress(step, 40, 10)
        assert method.teacher_temperature() == pytest.approx(temperature)
        assert method.multipliers().weight_decay == pytest.approx(decay)
    method.progress = Progress(40, 40, 10)
    before = method.teacher.module.head.prototypes.weight.clone()
    with torch.no_grad():
        network.head.prototypes.weight.add_(1.0)
    method.after_step()  # at the end it stands still
    torch.testing.assert_close(method.teacher.module.head.prototypes.weight, before)


def test_the_last_layer_stays_for_the_first_epochs_and_its_rows_have_length_1(digits, network):
    settings, method = METHODS["pretrain/dino"](digits, network)
    drawn = network.head.prototypes.weight.clone()
    train("pretrain/dino", digits, settings, method, batch=150, epochs=1, steps=1)
    assert torch.equal(network.head.prototypes.weight, drawn)
    network.head.prototypes.requires_grad_(True)
    train("pretrain/dino", digits, settings, method, batch=150, epochs=1)
    assert not torch.equal(network.head.prototypes.weight, drawn)
    embedding = torch.eye(16)
    scores = network.head.scores(embedding)  # of the axes: the rows themselves
    torch.testing.assert_close(scores.norm(dim=0), torch.ones(30))


def test_the_head_is_as_set(digits, network):
    form = {"hidden": 24, "outputs": 8, "depth": 2, "batch_norm": True, "activation": "relu"}
    method = build(digits, network, prototypes=5, student_temperature=0.3, **form)
    expected = PrototypeSettings(prototypes=5, temperature=0.3, **form)
    assert network.head.settings == method.selected().head.settings == expected


def test_teacher_or_student_is_kept(digits, network):
    assert build(digits, network).selected() is not network
    assert build(digits, network, keep="student").selected() is network


def test_the_loss_of_equal_outputs_is_the_value_at_chance(digits, network):
    method = build(digits, network)
    with torch.no_grad():
        for head in (network.head, method.teacher.module.head):
            head.prototypes.weight.copy_(torch.ones(12, 16))
    loss = losses_of(method, batch_of(digits, 20), torch.Generator().manual_seed(0))["loss"]
    assert method.loss_at_chance() == {"loss": pytest.approx(loss.item(), rel=1e-4)}


def test_gradients_are_clipped_tensor_by_tensor(digits, network, monkeypatch):
    settings, method = METHODS["pretrain/dino"](digits, network)
    norms = []
    step = torch.optim.AdamW.step

    def recorded(self, *given, **named):
        norms.extend(float(w.grad.norm()) for group in self.param_groups for w in group["params"] if w.grad is not None)
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    train("pretrain/dino", digits, settings, method, batch=150, epochs=1, clip=1e-3)
    assert max(norms) <= 1e-3 * 1.001
    # Each by itself: most reach the bound, which the norm of all together would keep them from.
    assert sum(norm > 0.9e-3 for norm in norms) > len(norms) / 2
