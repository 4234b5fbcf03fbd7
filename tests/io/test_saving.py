"""Saves take a small share of the time, however long each takes."""

import pytest

from sslpipe.io import saving as module
from sslpipe.io.saving import SHARE, Saving


class Clock:
    """A clock on which each save takes some seconds."""

    def __init__(self, monkeypatch, takes):
        self.now, self.takes, self.saves = 100.0, takes, 0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def save(self, saving):
        with saving.timed():
            self.now += self.takes
            self.saves += 1


@pytest.mark.parametrize("takes", [0.001, 0.3, 1.0, 9.7])
def test_saves_take_a_small_share_of_the_time(monkeypatch, takes):
    clock = Clock(monkeypatch, takes)
    saving, began = Saving(20), clock.now
    while clock.now < began + 10_000:
        clock.now += 0.5  # a step
        if saving.due():
            clock.save(saving)
    assert clock.saves * takes <= SHARE * 10_000 + takes
    assert clock.saves >= min(10_000 / 21, 0.9 * SHARE * 10_000 / takes)


def test_a_longer_interval_is_printed_once(monkeypatch, capsys):
    clock = Clock(monkeypatch, 9.7)
    saving = Saving(20)
    for _ in range(3):
        clock.save(saving)
    assert capsys.readouterr().out == (
        "a checkpoint takes 9.7 s, so the next one follows after 8:05 or more, for at most 2% of the time; "
        "--checkpoint-seconds 0 writes one after every step\n"
    )
    clock.takes = 0.39
    clock.save(Saving(20))
    assert capsys.readouterr().out == ""


def test_with_no_seconds_there_is_one_after_every_step(monkeypatch, capsys):
    clock = Clock(monkeypatch, 9.7)
    saving = Saving(0)
    for _ in range(3):
        assert saving.due()
        clock.save(saving)
    assert capsys.readouterr().out == ""


def test_a_save_that_fails_counts_as_well(monkeypatch):
    clock = Clock(monkeypatch, 9.7)
    saving = Saving(20)

    def fails():
        with saving.timed():
            clock.now += clock.takes
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    clock.now += 480
    assert not saving.due()
    clock.now += 6
    assert saving.due()
