import torch
from every_method import CROP, PROJECTION, batch_of, losses_of, pretext_given
from torch.nn import functional as F

from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain.moco import Method, Settings
from sslpipe.objectives.moco import info_nce


def build(digits, network, **settings):
    return Method(Settings(projection=PROJECTION, views=CROP, **settings), pretext_given(digits, network))


def test_the_queue_is_sized_to_the_data_and_begins_with_directions(digits, network):
    queue = build(digits, network).queue.rows
    assert queue.shape == (75, 16)  # a quarter of 300 images
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(75))
    assert build(digits, network, queue=40).queue.rows.shape == (40, 16)


def test_queries_meet_their_keys_and_the_keys_of_earlier_batches(digits, network):
    method = build(digits, network, queue=45, temperature=0.3).train()
    seen = []
    network.register_forward_hook(lambda module, given, output: seen.append(output.detach().clone()))
    method.averaged.module.register_forward_hook(lambda module, given, output: seen.append(output.clone()))
    before = method.queue.rows.clone()
    terms = losses_of(method, batch_of(digits), torch.Generator().manual_seed(0))
    query, key = seen
    assert not torch.allclose(query, key)
    torch.testing.assert_close(terms["loss"].detach(), info_nce(query, key, before, temperature=0.3))
    torch.testing.assert_close(method.queue.rows[:30], F.normalize(key, dim=1))
    assert torch.equal(method.queue.rows[30:], before[30:])
    method.progress = Progress(1, 2, 2)
    losses_of(method, batch_of(digits), torch.Generator().manual_seed(1))
    assert not torch.equal(method.queue.rows[30:], before[30:])


def test_the_key_encoder_follows_with_its_ema_decay_and_never_learns_by_gradient(digits, network):
    method = build(digits, network, ema_decay=0.75).train()
    assert not any(weight.requires_grad for weight in method.averaged.parameters())
    before = method.averaged.module.head[0].weight.clone()
    with torch.no_grad():
        network.head[0].weight.add_(1.0)
    method.after_step()
    torch.testing.assert_close(method.averaged.module.head[0].weight, before + 0.25)
    assert method.selected() is network
