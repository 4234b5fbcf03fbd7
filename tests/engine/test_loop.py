import signal

import numpy as np
import pytest
import torch
from torch import nn

from sslpipe.data.batches import Batches
from sslpipe.data.images import Images
from sslpipe.engine.checkpoint import Checkpoint
from sslpipe.engine.loop import fit
from sslpipe.engine.method import BaseMethod
from sslpipe.engine.optimizers import OptimizerSettings
from sslpipe.engine.schedules import ScheduleSettings
from sslpipe.engine.trainer import FitSettings
from sslpipe.io.errors import UserError

NO_CHECKPOINT = Checkpoint(None, 1e9)


class Autoencoder(BaseMethod):
    """Remembers in a buffer, draws from both sources of randomness, and can be told to misbehave."""

    def __init__(self, *, break_at=None, nan=False, skip=False, finish_after=None):
        super().__init__()
        # Convolutions have another memory format than their snapshot; their state has to follow them.
        convolutions = (nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1))
        self.net = nn.Sequential(
            *convolutions, nn.Flatten(), nn.Linear(48, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 16)
        )
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.break_at, self.nan, self.skip, self.finish_after = break_at, nan, skip, finish_after
        self.epochs = 0

    def draw_views(self, batch, generator):
        return None

    def losses(self, batch, views, generator):
        image = batch.image.float() / 255
        noisy = image + 0.1 * torch.randn(image.shape, generator=generator)
        loss = (self.net(noisy) - image.flatten(1)).square().mean()
        # The names are in no alphabetical order: that of the columns must outlive a checkpoint.
        terms = {"loss": loss * float("nan") if self.nan else loss, "error": loss.sqrt(), "brightness": image.mean()}
        return {**terms, "skipped": torch.tensor(1.0)} if self.skip else terms

    def after_step(self):
        self.seen += 1
        if self.seen == self.break_at:
            signal.raise_signal(signal.SIGINT)

    def after_epoch(self, terms):
        self.epochs += 1
        self.finished = self.epochs == self.finish_after
        return {"monitor": terms["loss"] * 2}


def images(count=40):
    array = np.random.default_rng(0).integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    return Images(array, torch.device("cpu"))


def settings(**kwargs):
    return FitSettings(**{"epochs": 5, "batch": 8, "optimizer": OptimizerSettings(name="adam", lr=0.01)} | kwargs)


def run(checkpoint=NO_CHECKPOINT, fit_settings=None, **kwargs):
    torch.manual_seed(0)
    method = Autoencoder(**kwargs)
    fit_settings = fit_settings or settings()
    batches = Batches(images(), fit_settings.batch, seed=3)
    return method, fit(method, batches, fit_settings, where="test", seed=3, checkpoint=checkpoint).history


def test_learns_and_writes_a_row_an_epoch():
    _, history = run(fit_settings=settings(epochs=30))
    assert [row["epoch"] for row in history] == list(range(1, 31))
    assert history[-1]["step"] == 150
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[0]["monitor"] == pytest.approx(2 * history[0]["loss"])


def test_steps_replace_epochs_and_the_last_row_may_be_a_part():
    _, history = run(fit_settings=settings(steps=7))
    assert [row["step"] for row in history] == [5, 7]


def test_rows_may_come_at_an_interval_of_their_own():
    _, history = run(fit_settings=settings(epochs=2, interval=4))
    assert [(row["step"], row["epoch"]) for row in history] == [(4, 0.8), (8, 1.6), (10, 2.0)]


def test_the_same_seed_gives_the_same_weights():
    first, second = run()[0], run()[0]
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
@pytest.mark.parametrize("break_at", [1, 12, 15])
def test_goes_on_bit_for_bit_after_ctrl_c(tmp_path, name, break_at):
    fit_settings = settings(
        optimizer=OptimizerSettings(name=name, lr=0.01), schedule=ScheduleSettings(name="cosine"), clip=0.5
    )
    expected, history = run(fit_settings=fit_settings)
    checkpoint = Checkpoint(tmp_path / "run", 1e9)
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint, fit_settings, break_at=break_at)
    resumed, resumed_history = run(checkpoint, fit_settings)
    for key, value in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key
    assert resumed_history == history
    assert [list(row) for row in resumed_history] == [list(row) for row in history]


def test_a_finished_run_is_not_repeated_while_its_outputs_are_unwritten(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run", 1e9)
    run(checkpoint)
    method, history = run(checkpoint)
    assert method.seen == 25
    assert len(history) == 5
    checkpoint.remove()
    assert not (tmp_path / "run").exists()


def test_a_truncated_snapshot_means_starting_anew(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run", 1e9)
    run(checkpoint)
    path = tmp_path / "run" / "run.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    method, _ = run(checkpoint)
    assert method.seen == 25


def test_a_loss_that_is_no_number_ends_the_run_with_advice():
    with pytest.raises(UserError, match=r"lower test\.fit\.optimizer\.lr"):
        run(nan=True)


def test_a_skipped_batch_changes_no_weight():
    torch.manual_seed(0)
    before = Autoencoder().state_dict()
    method, history = run(skip=True)
    assert torch.equal(method.net[1].weight, before["net.1.weight"])
    assert history[0]["skipped"] == 1


def test_a_method_may_end_the_run():
    _, history = run(finish_after=2)
    assert len(history) == 2


def test_more_images_a_batch_than_there_are_is_a_users_mistake():
    with pytest.raises(UserError, match=r"fit.batch: 50 is more than the 40 training images"):
        Batches(images(), 50, seed=0, where="fit.batch")


def test_an_epoch_shows_every_image_once_and_each_epoch_anew():
    batches = Batches(images(), 8, seed=0)
    epochs = [torch.cat([batches.at(epoch * 5 + i).index for i in range(5)]) for epoch in range(2)]
    assert all(sorted(order.tolist()) == list(range(40)) for order in epochs)
    assert not torch.equal(*epochs)
    batch = batches.at(3)
    assert torch.equal(batch.image, batches.images[batch.index])


@pytest.mark.parametrize("break_at", [None, 1, 12])
def test_the_terms_of_the_first_step_are_kept_over_an_interruption(tmp_path, break_at):
    def state(checkpoint, **kwargs):
        torch.manual_seed(0)
        return fit(
            Autoencoder(**kwargs), Batches(images(), 8, seed=3), settings(), where="", seed=3, checkpoint=checkpoint
        )

    torch.manual_seed(0)
    checkpoint = Checkpoint(tmp_path / "run", 1e9)
    expected = state(NO_CHECKPOINT).first
    if break_at:
        with pytest.raises(KeyboardInterrupt):
            state(checkpoint, break_at=break_at)
    found = state(checkpoint).first
    assert found == expected
    assert found.keys() == {"loss", "error", "brightness"}
    _, history = run(fit_settings=settings(steps=1))
    assert {name: value.item() for name, value in found.items()} == {name: history[0][name] for name in found}
