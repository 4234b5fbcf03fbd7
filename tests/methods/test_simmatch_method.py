import copy
from dataclasses import replace

import pytest
import torch
from every_method import losses_of, outputs_of
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sslpipe.data.batches import LabelledBatch
from sslpipe.engine.method import Progress
from sslpipe.io.errors import UserError
from sslpipe.methods.semisup.simmatch import Method, Settings, logits_and_embeddings
from sslpipe.nets.heads import InstanceSettings, LinearHead, LinearSettings
from sslpipe.views.policies import ViewSettings, plain

PLAIN = ViewSettings(policy="plain")


def drawing(pair, labelled, index):
    """The pair with these of the labelled images."""
    index = torch.tensor(index)
    batch = LabelledBatch(image=labelled.images[labelled.index[index]], index=index, label=labelled.label[index])
    return replace(pair, labelled=batch)


def embeddings(network, images):
    return logits_and_embeddings(network.eval(), plain(images))[1].detach()


def test_the_memory_begins_with_the_labelled_images(problem, labelled):
    method = Method(Settings(), problem)
    expected = embeddings(method.network, labelled.images[labelled.index])
    torch.testing.assert_close(method.bank, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(method.bank_labels, labelled.label)
    assert set(method.state_dict()) > {"bank", "bank_labels", "align.window", "align.steps_seen"}


class Elements(TorchDispatchMode):
    """Counts elements that operations return in new memory."""

    count = 0

    def __torch_dispatch__(self, function, types, given=(), named=None):
        result = function(*given, **(named or {}))
        if isinstance(result, torch.Tensor) and not function._schema.name.endswith("_"):
            self.count += result.numel()
        return result


def test_the_memory_is_changed_in_place_in_the_rows_of_the_batch_alone(problem):
    method = Method(Settings(outputs=8), problem)
    method.bank = F.normalize(torch.randn(5000, 8), dim=1)
    before, place = method.bank.clone(), method.bank.data_ptr()
    z = F.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    with Elements() as seen:
        method._remember(torch.tensor([4999, 3, 17, 3, 8, 3]), z)
    assert seen.count < 1000
    assert method.bank.data_ptr() == place
    assert (method.bank != before).any(dim=1).nonzero()[:, 0].tolist() == [3, 8, 17, 4999]


@pytest.mark.parametrize("memory", ["temporal", "teacher"])
def test_the_memory_moves_as_equation_12_has_it(problem, memory):
    method = Method(Settings(memory=memory, outputs=8), problem)
    random = torch.Generator().manual_seed(0)
    bank = method.bank.clone().double()
    momentum = 0.7 if memory == "temporal" else 0.0
    for index in ([3, 3, 7], [39, 0, 0, 0, 7]):
        z = F.normalize(torch.randn(len(index), 8, generator=random), dim=1)
        method._remember(torch.tensor(index), z)
        for image in set(index):
            seen = [z[place].double() for place, each in enumerate(index) if each == image]
            moved = momentum * bank[image] + (1 - momentum) * sum(seen) / len(seen)
            bank[image] = moved / moved.norm()
        torch.testing.assert_close(method.bank.double(), bank, rtol=1e-5, atol=1e-6)


def test_the_memory_is_addressed_by_the_labelled_images_number(problem, pair, labelled, generator):
    method = Method(Settings(), problem)
    before = method.bank.clone()
    losses_of(method, drawing(pair, labelled, [5, 11, 5, 30]), generator)
    assert torch.equal(method.bank, before)  # the backward pass reads it
    method.after_step()
    moved = (method.bank != before).any(dim=1).nonzero()[:, 0]
    assert moved.tolist() == [5, 11, 30]


def test_a_teacher_writes_its_own_embeddings_and_unlabelled_images_do_not_count(problem, pair, labelled):
    method = Method(Settings(memory="teacher", views=PLAIN), problem)
    with torch.no_grad():
        for weight in method.network.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    batch = drawing(pair, labelled, [5, 11, 30])
    before = method.bank.clone()
    others = replace(batch, unlabelled=replace(batch.unlabelled, image=255 - batch.unlabelled.image))
    banks = []
    for each in (batch, others):
        method.bank.copy_(torch.where(torch.arange(40)[:, None] == 5, -before, before))
        losses_of(method, each, torch.Generator().manual_seed(0))
        method._remember(*method._latest)
        banks.append(method.bank.clone())
    assert torch.equal(*banks)
    expected = embeddings(method.averaged.module, batch.labelled.image)
    torch.testing.assert_close(banks[0][[5, 11, 30]], expected, rtol=1e-4, atol=1e-5)
    students = embeddings(method.network, batch.labelled.image)
    assert not torch.allclose(expected, students, atol=1e-2)


def test_the_terms_are_those_of_the_papers_algorithm(problem, pair, labelled):
    weights = {"instance_weight": 2.0, "unlabelled_weight": 3.0}
    method = Method(Settings(threshold=0.16, propagation_alpha=0.6, label_smoothing=0.9, **weights), problem)
    bank, label = method.bank.double(), labelled.label
    terms = losses_of(method, pair, torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)
    weak = method.views(torch.cat([pair.labelled.image, pair.unlabelled.image]), generator)
    strong = method.strong(pair.unlabelled.image, generator)
    logits, z = (each.double().detach() for each in logits_and_embeddings(method.network, torch.cat([weak, strong])))
    log_p = logits[:20].log_softmax(1)
    known = -sum(0.1 * log_p[i][pair.labelled.label[i]] + 0.9 * log_p[i].mean() for i in range(20)) / 20
    average = logits[20:50].softmax(dim=1).mean(dim=0)
    semantic = instance = kept = 0
    for image in range(30):
        p = logits[20 + image].softmax(0) / average  # distribution alignment over the first step
        p = p / p.sum()
        q = (bank @ z[20 + image] / 0.1).softmax(0)  # eq. 3
        p_hat = [0.6 * p[c] + 0.4 * sum(q[j] for j in range(40) if label[j] == c) for c in range(10)]  # eq. 9, 10
        q_hat = torch.stack([q[j] * p[label[j]] for j in range(40)])  # eq. 7, 8
        q_hat = q_hat / q_hat.sum()
        if max(p_hat) > 0.16:
            kept += 1
            semantic -= sum(p_hat[c] * logits[50 + image].log_softmax(0)[c] for c in range(10)) / 30
        instance -= (q_hat * (bank @ z[50 + image] / 0.1).log_softmax(0)).sum() / 30
    assert 0 < kept < 30
    assert terms["confident"].item() == pytest.approx(kept / 30)
    for name, expected in (("labelled", known), ("semantic", semantic), ("instance", instance)):
        assert terms[name].item() == pytest.approx(float(expected), rel=2e-4), name
    assert terms["loss"].item() == pytest.approx(float(known + 3 * semantic + 2 * instance), rel=1e-3)


@pytest.mark.parametrize(("memory", "forwards"), [("temporal", [(True, 80)]), ("teacher", [(True, 50), (False, 50)])])
def test_with_a_teacher_the_student_sees_no_weak_view_of_the_unlabelled(problem, pair, generator, memory, forwards):
    method = Method(Settings(memory=memory), problem)
    seen = []
    for network in (method.network, method.averaged.module):
        network.backbone.register_forward_pre_hook(
            lambda module, images: seen.append((module.training, len(images[0])))
        )
    losses_of(method, pair, generator)
    assert seen == forwards


def test_a_teacher_with_statistics_of_its_own_normalises_by_the_weak_views_and_never_by_the_students(
    problem, pair, generator
):
    settings = Settings(memory="teacher", teacher_statistics="batch", keep="student", views=PLAIN, ema_decay=0.0)
    method = Method(settings, problem)
    method.train()
    network, teacher = method.network, method.averaged.module
    before = {name: each.clone() for name, each in teacher.named_buffers()}
    seen = outputs_of(teacher.backbone)
    losses_of(method, pair, generator)
    weak = plain(torch.cat([pair.labelled.image, pair.unlabelled.image]))
    copied = copy.deepcopy(network).train()
    torch.testing.assert_close(seen[0], copied.features(weak).detach(), rtol=1e-4, atol=1e-5)
    moved = {name for name, each in teacher.named_buffers() if not torch.equal(each, before[name])}
    assert any("running_mean" in name for name in moved)
    # The weights follow the student's, the statistics do not.
    for weight in network.parameters():
        weight.data += 1
    for each in network.buffers():
        each += 1
    own = {name: each.clone() for name, each in teacher.named_buffers()}
    method.after_step()
    assert all(torch.equal(each, own[name]) for name, each in teacher.named_buffers())
    for mine, theirs in zip(teacher.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("keep", "is_student"), [("teacher", False), ("student", True)])
def test_the_network_to_keep_is_a_setting(problem, keep, is_student):
    method = Method(Settings(memory="teacher", keep=keep), problem)
    assert method.selected() is (method.network if is_student else method.averaged.module)


@pytest.mark.parametrize(("step", "counts"), [(0, False), (3, False), (4, True), (9, True)])
def test_the_instance_term_counts_from_an_epoch_on(problem, pair, step, counts):
    method = Method(Settings(instance_from_epoch=1.0, instance_weight=5.0, unlabelled_weight=0.0), problem)
    method.progress = Progress(step, 20, 4)
    terms = losses_of(method, pair, torch.Generator().manual_seed(0))
    assert terms["instance"] > 0
    expected = terms["labelled"] + 5 * terms["instance"] * counts
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memory": "teacher", "ema_decay": None}, "memory: teacher needs ema_decay, such as 0.999"),
        ({"teacher_statistics": "batch"}, "teacher_statistics: batch found, expected memory: teacher with it"),
        ({"keep": "student"}, "keep: student found, expected memory: teacher with it, or ema_decay: null instead"),
    ],
)
def test_settings_of_a_teacher_need_one(given, message):
    with pytest.raises(UserError) as error:
        Settings(**given)
    assert str(error.value) == message


@pytest.mark.parametrize("head_init", ["random", "logistic"])
def test_a_start_that_knows_the_classes_keeps_its_layer(problem, head_init):
    problem.network.head = known = LinearHead(problem.network.backbone.dimension, LinearSettings(outputs=10))
    method = Method(Settings(head_init=head_init), problem)
    assert torch.equal(method.network.head.classifier.weight, known.weight)
    assert torch.equal(method.network.head.classifier.bias, known.bias)


def test_a_logistic_layer_knows_the_labelled_images(problem, labelled):
    method = Method(Settings(head_init="logistic"), problem)
    logits, _ = logits_and_embeddings(method.network.eval(), plain(labelled.images[labelled.index]))
    assert torch.equal(logits.argmax(dim=1), labelled.label)


def test_the_head_is_as_set_with_an_output_for_each_class(problem):
    head = Method(Settings(hidden=24, outputs=8), problem).network.head
    assert head.settings == InstanceSettings(classes=10, hidden=24, outputs=8)
