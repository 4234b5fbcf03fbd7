import torch
from torch.nn import functional as F

from sslpipe.data.batches import Batch
from sslpipe.engine.method import Progress
from sslpipe.methods.pretrain.nce import Pretext, Settings


def step(method, images, index, seed=0):
    batch = Batch(image=images[index], index=index)
    terms = method.losses(batch, torch.Generator().manual_seed(seed))
    feature = method._latest[1].clone()
    method.after_step(Progress(1, 10))
    return terms, feature


def test_visited_rows_of_the_memory_move_and_stay_on_the_sphere(digits, network):
    method = Pretext(Settings(negatives=0, momentum=0.5), network, digits[0])
    before, index = method.memory.clone(), torch.tensor([3, 7, 290])
    _, feature = step(method, digits[0], index)
    torch.testing.assert_close(method.memory[index], F.normalize(0.5 * before[index] + 0.5 * feature, dim=1))
    others = torch.ones(300, dtype=torch.bool)
    others[index] = False
    assert torch.equal(method.memory[others], before[others])
    torch.testing.assert_close(method.memory.norm(dim=1), torch.ones(300))


def test_the_normalizer_is_estimated_once(digits, network):
    method = Pretext(Settings(negatives=64), network, digits[0])
    index = torch.arange(30)
    step(method, digits[0], index)
    first = method.normalizer.clone()
    assert first > 0
    step(method, digits[0], index, seed=1)
    assert torch.equal(method.normalizer, first)


def test_the_proximal_term_is_added(digits, network):
    method = Pretext(Settings(negatives=16, proximal=2.0), network, digits[0])
    terms, _ = step(method, digits[0], torch.arange(30))
    torch.testing.assert_close(terms["loss"], terms["nce"] + 2 * terms["proximal"])
