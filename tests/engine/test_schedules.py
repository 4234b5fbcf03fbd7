import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sslpipe.engine.schedules import ScheduleSettings, factor
from sslpipe.io.errors import UserError
from sslpipe.io.settings import parse


@given(step=st.integers(0, 99), name=st.sampled_from(["constant", "cosine", "cosine_7_16", "steps"]))
def test_is_between_0_and_1(step, name):
    assert 0 <= factor(ScheduleSettings(name=name, warmup_epochs=2), step, 100, 10) <= 1


def test_cosine_starts_at_1_and_ends_near_final():
    settings = ScheduleSettings(name="cosine", final=0.1)
    assert factor(settings, 0, 1000, 10) == 1
    assert factor(settings, 500, 1000, 10) == pytest.approx(0.55)
    assert factor(settings, 999, 1000, 10) == pytest.approx(0.1, abs=1e-4)


def test_the_seven_sixteenth_wave_is_fixmatchs():
    settings = ScheduleSettings(name="cosine_7_16")
    assert factor(settings, 700, 1000, 10) == pytest.approx(math.cos(7 * math.pi * 700 / (16 * 1000)))


def test_warmup_rises_linearly_and_reaches_1():
    settings = ScheduleSettings(warmup_epochs=2)
    assert [factor(settings, step, 100, 5) for step in range(12)] == pytest.approx(
        [*(i / 10 for i in range(1, 11)), 1, 1]
    )


def test_steps_fall_at_the_milestones():
    settings = ScheduleSettings(name="steps", milestones=(0.5, 0.8), gamma=0.1)
    assert [factor(settings, step, 10, 1) for step in (0, 4, 5, 7, 8, 9)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_values_may_rise_at_a_milestone():
    settings = ScheduleSettings(name="steps", milestones=(0.2, 0.5, 0.8), values=(0.1, 3.0, 0.0))
    assert [factor(settings, step, 10, 1) for step in (0, 1, 2, 4, 5, 7, 8, 9)] == [1, 1, 0.1, 0.1, 3, 3, 0, 0]


@given(gamma=st.floats(0.01, 1), step=st.integers(0, 99))
def test_values_that_are_powers_of_gamma_are_the_schedule_without_values(gamma, step):
    milestones = (0.3, 0.6, 0.8)
    by_gamma = ScheduleSettings(name="steps", milestones=milestones, gamma=gamma)
    by_value = ScheduleSettings(name="steps", milestones=milestones, values=(gamma, gamma**2, gamma**3))
    assert factor(by_value, step, 100, 10) == pytest.approx(factor(by_gamma, step, 100, 10))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"milestones": [0.5, 0.8], "values": [0.1]}, "schedule: values: 1 found, expected 2, one for each"),
        ({"milestones": [0.8, 0.5]}, r"schedule: milestones: \[0.8, 0.5\] found, expected them in ascending order"),
        ({"values": [0.1, -1]}, r"schedule.values\[1\]: -1.0 is out of range"),
    ],
)
def test_mistakes_are_named(block, message):
    with pytest.raises(UserError, match=message):
        parse(ScheduleSettings, {"name": "steps", **block}, where="schedule")
