import pytest
import torch
from every_method import losses_of

from sslpipe.engine.method import Progress
from sslpipe.methods.semisup.mixmatch import Method, Settings
from sslpipe.views.mixing import MixSettings


@pytest.mark.parametrize(
    ("step", "ramp", "share"), [(0, 0.4, 0.0), (10, 0.4, 0.25), (40, 0.4, 1.0), (90, 0.4, 1.0), (0, 0.0, 1.0)]
)
def test_the_unlabelled_weight_rises_linearly(problem, pair, generator, step, ramp, share):
    method = Method(Settings(ramp=ramp, unlabelled_weight=60.0), problem)
    method.progress = Progress(step, 100, 10)
    terms = losses_of(method, pair, generator)
    torch.testing.assert_close(terms["loss"], terms["labelled"] + share * 60 * terms["unlabelled"])
    assert terms["unlabelled"] > 0


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (4096, 0.25), (16384, 1.0), (10**5, 1.0)])
@pytest.mark.parametrize("total", [2**20, 229_500])
def test_the_weight_may_rise_in_a_number_of_steps_however_long_the_run(problem, pair, generator, step, share, total):
    method = Method(Settings(ramp_steps=16384, unlabelled_weight=60.0), problem)
    method.progress = Progress(step, total, 765)
    terms = losses_of(method, pair, generator)
    torch.testing.assert_close(terms["loss"], terms["labelled"] + share * 60 * terms["unlabelled"])


def test_a_rise_in_0_steps_is_none(problem, pair, generator):
    terms = losses_of(Method(Settings(ramp_steps=0, unlabelled_weight=60.0), problem), pair, generator)
    torch.testing.assert_close(terms["loss"], terms["labelled"] + 60 * terms["unlabelled"])


def test_a_guess_is_the_sharpened_mean_over_the_copies(problem, pair, generator):
    method = Method(Settings(copies=3, temperature=0.4), problem)
    views = method.views(pair.unlabelled.image.repeat(3, 1, 1, 1), generator)
    guess = method._guess(views)
    predictions = method.network(views).softmax(dim=1).double().detach()
    for image in range(30):
        mean = sum(predictions[image + 30 * copy] for copy in range(3)) / 3
        power = [float(p) ** (1 / 0.4) for p in mean]
        expected = torch.tensor(power) / sum(power)
        for copy in range(3):
            torch.testing.assert_close(guess[image + 30 * copy], expected, rtol=1e-4, atol=1e-6)
    assert not guess.requires_grad


def test_everything_is_mixed_with_everything(problem, pair, generator, monkeypatch):
    method = Method(Settings(copies=2), problem)
    seen, mixes = [], []
    monkeypatch.setattr("sslpipe.methods.semisup.mixmatch.draw_mix", recorded(mixes))
    method.network.register_forward_pre_hook(lambda module, images: seen.append(images[0]))
    losses_of(method, pair, generator)
    guessed, mixed = seen
    assert (len(guessed), len(mixed)) == (60, 80)
    partner, weight = mixes[0].partner, mixes[0].weight
    assert (weight >= 0.5).all()
    assert (partner[:20] >= 20).any()
    for place in range(20, 80):
        if partner[place] >= 20:
            own, other = guessed[place - 20], guessed[partner[place] - 20]
            torch.testing.assert_close(mixed[place], weight[place] * own + (1 - weight[place]) * other)


def test_cutmix_has_boxes_of_the_images_size(problem, pair, generator, monkeypatch):
    method, mixes = Method(Settings(mixing=MixSettings(mixup=0.0, cutmix=1.0)), problem), []
    monkeypatch.setattr("sslpipe.methods.semisup.mixmatch.draw_mix", recorded(mixes))
    losses_of(method, pair, generator)
    assert mixes[0].mask.shape == (80, 1, 8, 8)


def recorded(mixes):
    """draw_mix, its results kept in a list."""
    from sslpipe.views.mixing import draw_mix

    return lambda *arguments: mixes.append(draw_mix(*arguments)) or mixes[-1]
