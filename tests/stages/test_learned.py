"""The line of what a training stage has learned."""

import torch

from sslpipe.engine.checkpoint import State
from sslpipe.engine.method import BaseMethod
from sslpipe.running.learned import learned, length_text, loss_text


class Known(BaseMethod):
    """A method whose loss is 2.5 at chance."""

    def draw_views(self, batch, generator):
        return None

    def losses(self, batch, views, generator):
        raise NotImplementedError

    def chance_loss(self):
        return 2.5


class Unknown(Known):
    """A method without such a value."""

    def chance_loss(self):
        return None


def state(**changes):
    history = [{"step": 5, "epoch": 1.0, "loss": 2.0}, {"step": 10, "epoch": 2.0, "loss": 0.123456, "confident": 0.75}]
    return State(**{"step": 10, "history": history, "first": {"loss": torch.tensor(3.0)}, **changes})


def test_the_loss_from_the_first_step_to_the_last_interval():
    assert loss_text(Known(), state()) == "loss 3 → 0.1235 (chance 2.5)"
    assert loss_text(Unknown(), state()) == "loss 3 → 0.1235"


def test_losses_of_different_phases_are_not_compared():
    first = {"loss": torch.tensor(1.4), "rotation": torch.tensor(1.4)}
    assert loss_text(Known(), state(first=first)) == "loss 0.1235 (chance 2.5)"


def test_the_length_and_the_time():
    assert length_text(state(), 130.0) == "2 epochs in 2:10"
    assert length_text(state(history=state().history[:1]), 5.0) == "1 epoch in 5 s"


def test_used_clusters_and_known_columns():
    found = state()
    outputs = torch.eye(5)[[0, 0, 0, 1]]
    line = learned(Known(), found, found.history, outputs, seconds=130.0, clusters=True)
    assert line.endswith("2 epochs in 2:10, 2 of 5 clusters used, the largest 75%, confident share 0.75")
    assert "clusters" not in learned(Known(), found, found.history, outputs)


def test_methods_without_a_training_loop():
    assert learned(object(), None, [{"modularity": 0.6543}], None, clusters=True) == "neighbour modularity 0.654"
    assert learned(object(), None, [{}], None) == "complete as it was built, nothing was trained"


def test_whole_numbers_are_in_full():
    row = {"labels": 1440.0, "penalty": 0.01, "modularity": float("nan")}
    assert learned(object(), None, [row], None) == "neighbour modularity nan, penalty 0.01, labels 1440"
